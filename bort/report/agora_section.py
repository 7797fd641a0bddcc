"""Agora in a report: what each iteration of it did, model by model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bort.report.html import Cell, table
from bort.report.reading import TITLES, Findings, is_number
from bort.report.student_figures import ORDER
from bort.report.words import DASH, percent, score

_HEAD = ["iteration", "sets of Θ left", "new points", "points in train", "best on steering", "the same, held out"]


def by_agora(record: Mapping[str, Any]) -> bool:
    """Tells whether a model was fine-tuned by Agora: its seeds then have a ledger each."""
    seeds = record.get("seeds") or []
    return bool(seeds) and all(isinstance(seed, Mapping) and seed.get("ledger") for seed in seeds)


def agora(findings: Findings) -> str:
    """Returns the ledger of the first seed of each model that Agora fine-tuned; empty where it took no part."""
    return "".join(_ledger(findings, role) for role in ORDER if by_agora(findings.tuned.get(role) or {}))


def _ledger(findings: Findings, role: str) -> str:
    seed = findings.tuned[role]["seeds"][0]
    metric = findings.metrics[0]
    rows = []
    for number, row in enumerate(seed["ledger"]):
        steering, heldout = row["best"]["steering"], (row.get("heldout") or {}).get(metric)
        rows.append(
            [
                Cell(str(number), number),
                Cell(str(len(row["left"])), len(row["left"])),
                Cell(f"{row['kept']:,}", row["kept"]),
                Cell(f"{row['points']:,}", row["points"]),
                Cell(score(steering, metric), steering),
                Cell(score(heldout, metric) if is_number(heldout) else DASH, heldout if is_number(heldout) else None),
            ]
        )
    right = ((seed.get("labeller") or {}).get("steering") or {}).get("accuracy")
    words = f"; its labeller is right on {percent(right)} of the steering examples" if is_number(right) else ""
    return table(f"Agora with the {TITLES[role]}, seed {seed.get('seed', 0)}{words}", _HEAD, rows)
