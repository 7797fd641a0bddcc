"""Settings of latencies that are measured on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from bort.errors import ConfigurationError
from bort.quantities import LATENCIES, Latency, LatencyConfig, LatencyInputs

if TYPE_CHECKING:
    from bort.measure.backends import Converter

#: Where the measurement is recorded, in the search's directory.
FILE = "latencies.json"
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms")


@dataclass
class MeasuredLatencyConfig(LatencyConfig):
    """The median time of one forward pass of the encoder, in milliseconds, measured on this machine before the search begins."""

    batch: Annotated[int, Ge(1)] = 1
    """Sequences in one call."""

    repeats: Annotated[int, Ge(5)] = 30
    """Timed calls of each shape, in rounds in which every shape is called once. On a quiet machine the median
    of 30 calls is accurate to about 1 %.
    """

    warmup: Annotated[int, Ge(0)] = 3
    """Untimed rounds before them."""

    threads: Annotated[int, Ge(1)] | None = 1
    """Processor threads; ``null`` for all that the process may use. One thread is what a request gets on a
    busy server, and what other processes disturb least; on a GPU they only feed it.
    """

    measures: ClassVar[bool] = True
    backend: ClassVar[str] = "eager"
    device: ClassVar[str] = "cpu"

    def check_machine(self, positions: int) -> None:
        """Refuse a sequence that is longer than the candidates' positions."""
        if self.sequence_length > positions:
            accepted = f"<= {positions}, the most tokens that the students read"
            raise ConfigurationError("latency.sequence_length", self.sequence_length, accepted)

    def converter(self) -> Converter | None:
        """Return what converts a model before it is measured."""
        return None

    def build(self, inputs: LatencyInputs) -> Latency:
        """Measure every shape, or read what was measured for this search before, by any worker."""
        from bort.measure.config import BenchmarkConfig
        from bort.measure.shapes import measure_shapes

        record = measure_shapes(
            inputs.shapes,
            config=BenchmarkConfig(
                backends=[self.backend],
                batch=[self.batch],
                sequence_length=[self.sequence_length],
                repeats=self.repeats,
                warmup=self.warmup,
                threads=self.threads,
            ),
            path=Path(inputs.directory) / FILE,
            counts=inputs.counts,
            device=self.device,
            converter=self.converter(),
            observer=inputs.observer,
        )
        rows, environment = record["rows"], record["environment"]
        return Latency(
            lambda architecture: float(rows[str(architecture)]["p50_ms"]),
            {
                "unit": "ms",
                **{name: record["identity"][name] for name in ("backend", "device", "threads", "repeats")},
                "sequence_length": self.sequence_length,
                "batch": self.batch,
                **{name: environment[name] for name in ("processor", "accelerator", "load", "versions") if name in environment},
                "others_share": record["others_share"],
                "busy": record["busy"],
                "seconds": record["seconds"],
                "file": FILE,
            },
            {shape: {name: rows[str(shape)][name] for name in PERCENTILES} for shape in inputs.shapes},
        )


@LATENCIES.register
@dataclass
class CpuLatencyConfig(MeasuredLatencyConfig):
    """PyTorch on the processor."""

    name: str = "cpu"


@LATENCIES.register
@dataclass
class GpuLatencyConfig(MeasuredLatencyConfig):
    """PyTorch on a CUDA device."""

    name: str = "gpu"

    device: ClassVar[str] = "cuda"

    def check_machine(self, positions: int) -> None:
        """Refuse a machine without a GPU."""
        import torch

        super().check_machine(positions)
        if not torch.cuda.is_available():
            raise ConfigurationError("latency", "gpu", "one of cpu, onnx, operations: this machine has no GPU that PyTorch can use")
