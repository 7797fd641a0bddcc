"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import bort
from bort.files import write_text
from bort.observer import Observer, Quiet
from bort.report import sections, student_figures
from bort.report.agora import by_agora, ledgers
from bort.report.baselines import baseline_scores
from bort.report.claims_table import ledger
from bort.report.drawing import Drawing
from bort.report.provenance import provenance
from bort.report.reading import TITLES, Findings
from bort.report.replay_figures import replay_figures, replays
from bort.report.search_figures import search_figures
from bort.report.summary import headline, headline_html, tiles
from bort.report.theme import style

_HERE = Path(__file__).parent
#: The page may load nothing: no script, style, font or picture from anywhere.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)


def build_report(result: Mapping[str, Any], directory: Path | str, *, observer: Observer | None = None) -> Path:
    """Draws everything that a result holds and writes ``index.html``, with each figure also as SVG and PNG under ``figures/``.

    Sections whose data are missing are left out, so the result of a single stage makes a page as well as that of the whole chain.

    Args:
        result: A ``result.json``: of the chain (sections ``search``, ``distill``, ``finetune``, ``export``, ``benchmark``, beside
            ``name``, ``config``, ``teacher``, ``corpus``, ``seconds``, ``mlflow``, and ``commands``, a list of lines that
            reproduce it), or of one of these stages (``stage`` says which).
        directory: Where to write.
        observer: Told of progress.

    Returns:
        The page's path.

    Raises:
        RecordError: The result was written by a newer version, or mixes two studies.
    """
    findings = Findings.of(result)
    observer, directory = observer or Quiet(), Path(directory)
    drawn = _draw(findings, observer)
    for drawing in drawn.values():
        drawing.write(directory / "figures")
    page = directory / "index.html"
    write_text(page, _page(findings, drawn))
    return page


def _draw(findings: Findings, observer: Observer) -> dict[str, Drawing]:
    students: list[Callable[[Findings], Drawing | None]] = [
        student_figures.curves,
        student_figures.task_scores,
        baseline_scores,
        student_figures.latency,
        student_figures.stage_costs,
    ]
    drawn: dict[str, Drawing] = {}
    for drawing in (*search_figures(findings), *replay_figures(findings.replays)):
        drawn[drawing.name] = drawing
    for role, record in findings.tuned.items():
        if by_agora(record):
            drawing = ledgers(record, TITLES[role], f"ledger_{role}")
            drawn[drawing.name] = drawing
    for place, draw in enumerate(students):
        observer.progress("report", place + 1, len(students) + 1)
        made = draw(findings)
        if made is not None:
            drawn[made.name] = made
    return drawn


def _page(findings: Findings, drawn: dict[str, Drawing]) -> str:
    parts = {
        "search": ("The search", sections.search(findings, drawn)),
        "replays": ("Strategies", replays(findings.replays, drawn)),
        "distillation": ("The student", sections.distillation(findings, drawn)),
        "task": ("Task scores", sections.task(findings, drawn)),
        "latency": ("Latency", sections.latency(findings, drawn)),
        "export": ("Export", sections.export(findings)),
        "claims": ("The paper's claims", ledger(findings)),
        "costs": ("Cost", sections.costs(findings, drawn)),
        "provenance": ("Made from", provenance(findings)),
    }
    shown = {name: part for name, part in parts.items() if part[1]}
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, (title, _) in shown.items())
    css = (_HERE / "page.css").read_text(encoding="utf-8")
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    # A number and its sign stay on one line.
    heading, figures = (_together(text) for text in (headline_html(findings), tiles(findings)))
    body = _together("\n".join(part for _, part in shown.values()))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="description" content="{escape(headline(findings))}">
<title>{escape(findings.name)} · Bort report</title>
<link rel="icon" href="data:,">
<style>
{style()}
{css}</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header>
<p class="kicker">Bort report · {escape(findings.name)}</p>
{heading}
{figures}
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main id="content">
{body}
</main>
<footer><p>Written by bort {escape(bort.__version__)}. The page holds all it shows and asks the network for nothing.</p></footer>
<script>
{script}</script>
</body>
</html>
"""


def _together(text: str) -> str:
    return text.replace(" %", "\u00a0%").replace("τ = ", "τ\u00a0=\u00a0").replace("W = ", "W\u00a0=\u00a0")
