"""The figures of a latency benchmark."""

from __future__ import annotations

from typing import Any

from bort.report.latency_figures import latency_figures


def row(model: str, backend: str, median: float, length: int = 128) -> dict[str, Any]:
    return {"model": model, "backend": backend, "batch": 1, "sequence_length": length, "p50_ms": median, "p99_ms": 1.5 * median}


def test_every_cell_has_a_figure_with_every_series() -> None:
    result = {
        "rows": [row("bort", "eager", 40), row("bort", "int8", 12), row("bert-base", "eager", 150), row("bort", "eager", 9, 32)],
        "environment": {"processor": "a processor", "threads": 2},
        "busy": True,
    }
    whole, short = latency_figures(result)
    assert (whole.name, short.name) == ("latency-batch1-length128", "latency-batch1-length32")
    assert whole.svg.index("bert-base</text>") < whole.svg.index("bort</text>"), "the slowest stands on top"
    for words in ("bort, int8: 12.0 ms, 99th percentile 18.0 ms", "bort on int8 is the fastest, 12.0 ms", "The machine was busy"):
        assert words in whole.svg
    assert "bert-base" not in short.svg
    assert whole.png.startswith(b"\x89PNG")
