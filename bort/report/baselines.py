"""Fine-tuned models beside the baselines: score against latency and against size, with the front, and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bort.report.drawing import Drawing, canvas, finish
from bort.report.formatting import DASH, big, score
from bort.report.formatting import figure as digits
from bort.report.html import Cell, paragraph, table
from bort.report.reading import Findings, is_number
from bort.report.theme import LIGHT, ROLE_COLOURS

#: Axes by the key of a row: label, and a factor from the row's unit to the axis's.
_AXES = {"latency_ms": ("milliseconds for one text", 1.0), "parameters": ("million parameters", 1e-6)}


def comparison(findings: Findings) -> Mapping[str, Any]:
    """Return the comparison with baselines that the fine-tuning left; empty if there is none."""
    return findings.comparison if findings.comparison.get("rows") else {}


def baseline_scores(findings: Findings) -> Drawing | None:
    """Return scores against latency and size on logarithmic axes; a line joins what nothing cheaper reaches."""
    found = comparison(findings)
    rows = [row for row in found.get("rows", []) if is_number(row.get("mean"))]
    if not any(is_number(row.get("latency_ms")) for row in rows):
        return None
    with canvas(len(_AXES), height=3.4, sharey=True) as drawn:
        for axes, (key, (label, factor)) in zip(drawn.axes, _AXES.items(), strict=True):
            shown = [row for row in rows if is_number(row.get(key)) and row[key] > 0]
            front = _front(shown, key)
            axes.plot(
                [row[key] * factor for row in front], [row["mean"] for row in front], color=LIGHT["front"], linewidth=1.2, zorder=1
            )
            for row in shown:
                x, colour = row[key] * factor, ROLE_COLOURS.get(row["name"], LIGHT["muted"])
                if is_number(row.get("low")):
                    axes.plot([x, x], [row["low"], row["high"]], color=colour, linewidth=3, alpha=0.3, zorder=2)
                mark = axes.plot(x, row["mean"], "o", color=colour, markersize=7, markeredgecolor=LIGHT["paper"], zorder=3)[0]
                drawn.hint(mark, f"{row['title']}: {score(row['mean'], found['metric'])}, {digits(x)} {label}")
                axes.annotate(
                    row["name"].replace("_", " "), (x, row["mean"]), xytext=(6, 4), textcoords="offset points", fontsize=7.5
                )
            axes.set_xscale("log")
            axes.margins(x=0.18, y=0.12)
            axes.set_xlabel(f"{label}   (← less is better)")
        drawn.axes[0].yaxis.set_major_formatter(lambda value, _position: f"{100 * value:.3g}")
        drawn.axes[0].set_ylabel(f"{found['metric'].replace('_', ' ')}, in points")
        text = (
            f"{found.get('sentence', '')} Bars are 95 % intervals: over seeds for fine-tuned models, over held-out examples for "
            "the others. The line joins what nothing cheaper reaches."
        ).strip()
        return finish(drawn, "baselines", f"Beside the baselines on {findings.task_name}", text)


def _front(rows: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    front: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row[key], -row["mean"])):
        if not front or row["mean"] > front[-1]["mean"]:
            front.append(row)
    return front


def baseline_table(findings: Findings) -> str:
    """Return the comparison as a table with its sentence; nothing if there is none."""
    found = comparison(findings)
    metric = str(found.get("metric", ""))
    rows = [
        [
            Cell(row["title"], strong=row["name"] == "student"),
            Cell(score(row["mean"], metric), row["mean"]),
            Cell(f"{100 * row['low']:.1f} to {100 * row['high']:.1f}" if is_number(row.get("low")) else DASH, row.get("low")),
            Cell(big(row["parameters"]), row["parameters"]),
            Cell(digits(row.get("latency_ms")), row.get("latency_ms")),
            Cell(digits(row.get("processor_seconds")), row.get("processor_seconds")),
            Cell(", ".join(row["dominated_by"]) or "on the front"),
        ]
        for row in found.get("rows", [])
    ]
    head = [
        "model",
        metric.replace("_", " "),
        "95 % interval",
        "parameters",
        "one text (ms)",
        "training (processor s)",
        "dominated by",
    ]
    return table("Beside what is tried without Bort", head, rows) + paragraph(str(found.get("sentence", ""))) if rows else ""
