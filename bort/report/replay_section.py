"""The section on replayed searches: which strategy finds the exhaustive winner, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bort.report.drawing import Drawing
from bort.report.html import Cell, figure, paragraph, section, table
from bort.report.reading import is_number
from bort.report.words import percent

HEAD = [
    "strategy", "tables", "budget", "spent", "replays", "found the winner", "interval", "within 1 %", "mean regret", "interval",
]  # fmt: skip


def in_short(result: Mapping[str, Any]) -> str:
    """Returns one sentence on the first strategy at a tenth of the steps, or at the first budget above; empty without replays."""
    rows = [row for row in result.get("rows") or [] if is_number((row.get("near") or {}).get("value"))]
    row = next((row for row in rows if row["strategy"] == rows[0]["strategy"] and row["budget"] >= 0.1), None)
    if row is None:
        return ""
    return (
        f"With {percent(row['budget'], 0)} of the exhaustive steps {row['strategy']} found the exhaustive winner in "
        f"{percent(row['success']['value'], 0)} of replays, and one within 1 % of its W in {percent(row['near']['value'], 0)}."
    )


def replays(result: Mapping[str, Any], drawn: Mapping[str, Drawing]) -> str:
    """The figures and every cell of a result of ``bort benchmark search``; empty where there is none."""
    rows = [
        [
            Cell(str(row["strategy"])),
            Cell(str(row["table"])),
            Cell(percent(row["budget"], 0), row["budget"]),
            Cell(percent(row["cost"]["mean"]), row["cost"]["mean"]),
            Cell(f"{row['replays']:,}", row["replays"]),
            *_interval(row.get("success"), 1),
            Cell(percent((row.get("near") or {}).get("value"))),
            *_interval(row.get("regret"), 2),
        ]
        for row in result.get("rows") or []
        if is_number((row.get("cost") or {}).get("mean"))
    ]
    if not rows:
        return ""
    return section(
        "replays",
        "Search strategies compared",
        [
            paragraph(_words(result.get("benchmark") or {})),
            figure(drawn.get("replay")),
            figure(drawn.get("replay_measured")),
            table("Every strategy at every budget", HEAD, rows, kind="tall"),
        ],
    )


def _interval(value: Mapping[str, Any] | None, digits: int) -> list[Cell]:
    value = value or {}
    bounds = f"{percent(value.get('low'), digits)} to {percent(value.get('high'), digits)}"
    return [Cell(percent(value.get("value"), digits), value.get("value")), Cell(bounds, value.get("low"))]


def _words(bench: Mapping[str, Any]) -> str:
    if not bench:
        return ""
    winner, drawn = bench.get("winner") or {}, bench.get("drawn_winners") or {}
    words = (
        f"The table holds {bench.get('candidates', 0):,} architectures at {len(bench.get('rungs') or [])} rungs. Its exhaustive "
        f"winner is {winner.get('name')}"
    )
    words += f", {percent(bench['margin'], 2)} ahead of the next best. " if is_number(bench.get("margin")) else ". "
    if drawn:
        words += (
            f"In the drawn tables {len(drawn)} architectures win at least once; training with another seed alone moves the winner, "
            "so the share of replays that find it cannot be told without the regret."
            if len(drawn) > 1
            else "It wins in every drawn table."
        )
    return words
