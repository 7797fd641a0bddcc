"""The figures of a latency benchmark: the median of every model and backend, and how far the slow calls lie from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bort.report.drawing import Drawing, canvas, finish
from bort.report.formatting import figure
from bort.report.theme import LIGHT

_MARKS = {
    "eager": ("o", "teacher"),
    "compile": ("s", "muted"),
    "onnx": ("D", "front"),
    "int8": ("^", "student"),
    "cuda": ("v", "twin"),
    "cuda_bf16": ("P", "bad"),
}


def latency_figures(result: Mapping[str, Any]) -> list[Drawing]:
    """Returns a figure for each batch size and sequence length of a result of :func:`bort.measure.measure`."""
    cells = list(dict.fromkeys((row["batch"], row["sequence_length"]) for row in result["rows"]))
    return [_figure(result, batch, length) for batch, length in cells]


def _figure(result: Mapping[str, Any], batch: int, length: int) -> Drawing:
    rows = [row for row in result["rows"] if (row["batch"], row["sequence_length"]) == (batch, length)]
    backends = list(dict.fromkeys(row["backend"] for row in rows))
    slowest: dict[str, float] = {}
    for row in rows:
        slowest[row["model"]] = max(row["p50_ms"], slowest.get(row["model"], 0.0))
    names = sorted(slowest, key=lambda name: -slowest[name])
    with canvas(height=1.2 + 0.3 * len(names)) as drawn:
        axes = drawn.axes[0]
        for place, backend in enumerate(backends):
            shift = 0.5 * (place / max(1, len(backends) - 1) - 0.5) if len(backends) > 1 else 0.0
            _series(drawn, [row for row in rows if row["backend"] == backend], names, shift, backend)
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("milliseconds, logarithmic   (← less is better)")
        axes.legend(loc="upper left", fontsize=8)
        environment = result["environment"]
        quickest = min(rows, key=lambda row: row["p50_ms"])
        text = (
            f"Median time of one call on {environment['processor']} with {environment['threads']} threads; lines reach to the 99th "
            f"percentile. {quickest['model']} on {quickest['backend']} is the fastest, {figure(quickest['p50_ms'])} ms."
        )
        if result["busy"]:
            text += " The machine was busy while this was measured."
        title = f"Latency, batch {batch}, {length} tokens"
        axes.set_title(title)
        return finish(drawn, f"latency-batch{batch}-length{length}", title, text)


def _series(drawn: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str], shift: float, backend: str) -> None:
    mark, colour = _MARKS[backend]
    axes = drawn.axes[0]
    for row in rows:
        height = names.index(row["model"]) + shift
        axes.plot([row["p50_ms"], row["p99_ms"]], [height, height], color=LIGHT[colour], linewidth=1, zorder=2)
        label = backend if row is rows[0] else None
        (point,) = axes.plot(
            row["p50_ms"], height, mark, color=LIGHT[colour], markersize=5, label=label, linestyle="none", zorder=3
        )
        drawn.hint(point, f"{row['model']}, {backend}: {figure(row['p50_ms'])} ms, 99th percentile {figure(row['p99_ms'])} ms")
