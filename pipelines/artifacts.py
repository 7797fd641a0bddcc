"""What a search leaves beside its result for people and their tools: tables of the candidates and of the front, and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .engine.stage import Run

CANDIDATES, FRONT, CERTIFICATE, FIGURES = "candidates.csv", "front.csv", "certificate.json", "figures"
_COLUMNS = (
    "name", "depth", "heads", "hidden", "intermediate", "theta", "state", "w", "error", "steps", "parameters", "operations",
    "latency", "tokens", "processor_seconds", "seconds", "checkpoint", "reason",
)  # fmt: skip
_FRONT_COLUMNS = ("name", "depth", "heads", "hidden", "intermediate", "theta", "p", "i", "e", "w")


def record(run: Run, result: Mapping[str, Any]) -> None:
    """Writes both tables, and records them with the certificate and, where runs are tracked, the figures of the search."""
    from bort.search.table import TABLE, write_rows
    from bort.search.w import ranked

    folder = Path(run.directory)
    candidates = ranked(result["candidates"])
    # The percentiles of a measured latency have columns of their own.
    percentiles = list(dict.fromkeys(name for row in candidates for name in row["percentiles"]))
    rows = [{**row, **row["percentiles"]} for row in candidates]
    tables = {CANDIDATES: ((*_COLUMNS[:13], *percentiles, *_COLUMNS[13:]), rows), FRONT: (_FRONT_COLUMNS, result["front"])}
    for name, (columns, kept) in tables.items():
        write_rows(folder / name, [{column: row.get(column) for column in columns} for row in kept], columns)
    # A search that trained leaves its errors as a table that can be replayed.
    for name in (CANDIDATES, FRONT, CERTIFICATE, *([TABLE] if (folder / TABLE).exists() else [])):
        run.tracked.artifact(folder / name)
    if run.config.tracking.enabled:
        from bort.report.reading import Findings
        from bort.report.search_figures import search_figures

        for drawing in search_figures(Findings.of({"stage": "search", **result})):
            drawing.write(folder / FIGURES)
        run.tracked.artifact(folder / FIGURES)
