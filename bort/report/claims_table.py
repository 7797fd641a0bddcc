"""The ledger of the claims: a section of a report, a table in Markdown, and the place in a page where that stands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bort.errors import RecordError
from bort.report.claims import Line, claims
from bort.report.evidence import Evidence
from bort.report.html import Cell, paragraph, section, table
from bort.report.reading import Findings

HEAD = ("the paper says", "measured here", "verdict", "evidence, or what would measure it")
#: The stages that can speak of a claim, and the part of the page that shows them.
_EVIDENCE = {"search": "search", "finetune": "task", "benchmark": "latency", "benchmark_search": "replays"}
_TITLES = {
    "#search": "the search, above",
    "#task": "the scores, above",
    "#latency": "latency, above",
    "#replays": "strategies, above",
}
_BEGIN, _END = "<!-- ledger: written by `bort claims` -->", "<!-- end of the ledger -->"


def markdown(lines: Sequence[Line], beside: Path | str = ".") -> str:
    """Returns the ledger as a table in Markdown.

    Args:
        lines: The lines.
        beside: The folder of the page that the table is for; links to files are relative to it.
    """
    rows = [HEAD, ("---",) * len(HEAD), *(_row(line, Path(beside)) for line in lines)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def _row(line: Line, beside: Path) -> tuple[str, ...]:
    claim = line.claim
    said = claim.words + (f" ({claim.note})" if claim.note else "")
    command = f"`{line.command}`" if line.command else ""
    if not line.evidence:
        return said, line.here, line.verdict, command
    name = Path(line.evidence).name
    shown = f"[{name}]({os.path.relpath(line.evidence, beside)})" if name.endswith(".json") else line.evidence
    return said, line.here, f"**{line.verdict}**", f"{shown}: {command}" if command else shown


def insert(page: Path | str, ledger: str) -> str:
    """Returns a page's text with the ledger between its marks.

    Raises:
        RecordError: The page has no marks.
    """
    text = Path(page).read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise RecordError(f"{page} has no place for the ledger: it needs the lines {_BEGIN} and {_END}, once each.")
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}\n{ledger}{_END}{rest.partition(_END)[2]}"


def ledger(findings: Findings) -> str:
    """The claims ledger, filled from this result alone; only where there is more than counting to show."""
    evidence = [
        Evidence(stage, record, f"#{part}")
        for stage, part in _EVIDENCE.items()
        if (record := findings.result.get(stage) or (findings.result if findings.result.get("stage") == stage else None))
    ]
    if not evidence:
        return ""
    words = "What the paper claims, beside what this run can say of it. One small run does not settle a claim about a large one."
    rows = [
        [
            Cell(line.claim.words),
            Cell(line.claim.printed),
            Cell(line.here),
            Cell(line.verdict, strong=bool(line.evidence)),
            Cell(_TITLES.get(line.evidence, line.evidence), link=line.evidence) if line.evidence[:1] == "#" else Cell(line.command),
        ]
        for line in claims(evidence)
    ]
    head = ["the paper says", "in print", "here", "verdict", "evidence, or what would measure it"]
    return section(
        "claims", "The paper's claims", [paragraph(words), table("Claims and evidence", head, rows, sort=False, kind="words")]
    )
