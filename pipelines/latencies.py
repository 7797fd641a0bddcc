"""Where the latencies of a search come from: counted in closed form, or measured before the search begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.errors import ConfigurationError
from bort.search.estimator_config import GpuLatencyConfig, MeasuredLatencyConfig, OnnxLatencyConfig
from bort.settings import check_settings
from bort.teacher.shape import TeacherShape

from .engine.schema import Config
from .engine.stage import Run

FILE = "latencies.json"
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms")


@dataclass(frozen=True)
class Latency:
    """What a search is handed.

    Args:
        of: Tells i of an architecture.
        circumstances: Unit, sequence length, and how it was measured.
        percentiles: Percentiles of a measured latency.
    """

    of: Callable[[Architecture], float]
    circumstances: Mapping[str, Any]
    percentiles: Mapping[Architecture, Mapping[str, float]] = field(default_factory=dict)


def check(config: Config, shape: TeacherShape) -> None:
    """Refuses a latency that cannot be measured on this machine."""
    latency = config.latency
    check_settings(latency, "latency")
    if not isinstance(latency, MeasuredLatencyConfig):
        return
    if latency.sequence_length > shape.positions:
        accepted = f"the students take at most {shape.positions} tokens"
        raise ConfigurationError("latency.sequence_length", latency.sequence_length, accepted)
    if isinstance(latency, OnnxLatencyConfig):
        from bort.measure.runtime import require_onnx

        require_onnx()
    if isinstance(latency, GpuLatencyConfig):
        import torch

        if not torch.cuda.is_available():
            raise ConfigurationError("latency", "gpu", "this machine has no GPU that PyTorch can use; take cpu, onnx or operations")


def counted(config: Config) -> Latency:
    """Returns the operations of one forward pass."""
    length = config.latency.sequence_length
    return Latency(
        lambda architecture: architecture.operations(length), {"unit": "multiply-adds", "sequence_length": length, "batch": 1}
    )


def measured(run: Run, shapes: Sequence[Architecture], counts: TeacherShape) -> Latency:
    """Measures every shape, or reads what was measured for this search before, by whichever worker."""
    from bort.export.convert import onnx_file
    from bort.measure.config import BenchmarkConfig
    from bort.measure.shapes import measure_shapes

    latency = run.config.latency
    if not isinstance(latency, MeasuredLatencyConfig):
        raise TypeError(f"latency={latency.name} is not measured.")
    record = measure_shapes(
        shapes,
        config=BenchmarkConfig(
            backends=["onnx" if isinstance(latency, OnnxLatencyConfig) else "eager"],
            batch=[latency.batch],
            sequence_length=[latency.sequence_length],
            repeats=latency.repeats,
            warmup=latency.warmup,
            threads=latency.threads,
        ),
        path=Path(run.directory) / FILE,
        counts={"vocab_size": counts.vocab_size, "positions": counts.positions, "token_types": max(1, counts.token_types)},
        device="cuda" if isinstance(latency, GpuLatencyConfig) else "cpu",
        converter=onnx_file,
        observer=run.observer,
    )
    run.tracked.artifact(Path(run.directory) / FILE)
    rows, environment = record["rows"], record["environment"]
    return Latency(
        lambda architecture: float(rows[str(architecture)]["p50_ms"]),
        {
            "unit": "ms",
            **{name: record["identity"][name] for name in ("backend", "device", "threads", "repeats")},
            "sequence_length": latency.sequence_length,
            "batch": latency.batch,
            **{name: environment[name] for name in ("processor", "accelerator", "load", "versions") if name in environment},
            "others_share": record["others_share"],
            "busy": record["busy"],
            "seconds": record["seconds"],
            "file": FILE,
        },
        {shape: {name: rows[str(shape)][name] for name in PERCENTILES} for shape in shapes},
    )
