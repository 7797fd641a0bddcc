"""What a search leaves beside its result for people and their tools: tables of the candidates and of the front, and figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bort.files import write_text
from pipelines.stage import Run

CANDIDATES, FRONT, CERTIFICATE, FIGURES = "candidates.csv", "front.csv", "certificate.json", "figures"
_COLUMNS = (
    "name", "depth", "heads", "hidden", "intermediate", "theta", "state", "w", "error", "steps", "parameters", "operations",
    "latency", "tokens", "processor_seconds", "seconds", "checkpoint", "reason",
)  # fmt: skip
_FRONT_COLUMNS = ("name", "depth", "heads", "hidden", "intermediate", "theta", "p", "i", "e", "w")


def record(run: Run, result: Mapping[str, Any]) -> None:
    """Writes both tables, and records them with the certificate and, where runs are tracked, the figures of the search."""
    from bort.search.table import TABLE

    folder = Path(run.directory)
    candidates = sorted(result["candidates"], key=lambda row: (row["w"] is None, -(row["w"] or 0.0), row["number"]))
    # The percentiles of a measured latency have columns of their own.
    percentiles = list(dict.fromkeys(name for row in candidates for name in row["percentiles"]))
    rows = [{**row, **row["percentiles"]} for row in candidates]
    write_text(folder / CANDIDATES, _table((*_COLUMNS[:13], *percentiles, *_COLUMNS[13:]), rows))
    write_text(folder / FRONT, _table(_FRONT_COLUMNS, result["front"]))
    # A search that trained leaves its errors as a table that can be replayed.
    for name in (CANDIDATES, FRONT, CERTIFICATE, *([TABLE] if (folder / TABLE).exists() else [])):
        run.tracked.artifact(folder / name)
    if run.config.tracking.enabled:
        from bort.report.reading import Findings
        from bort.report.search_figures import search_figures

        for drawing in search_figures(Findings.of({"stage": "search", **result})):
            drawing.write(folder / FIGURES)
        run.tracked.artifact(folder / FIGURES)


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
