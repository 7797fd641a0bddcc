"""Settings of the latency in ONNX Runtime, which takes a conversion of every shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bort.measure.latency_config import MeasuredLatencyConfig
from bort.quantities import LATENCIES

if TYPE_CHECKING:
    from bort.measure.backends import Converter


@LATENCIES.register
@dataclass
class OnnxLatencyConfig(MeasuredLatencyConfig):
    """ONNX Runtime on the processor. Every shape is converted first, which takes some seconds each."""

    name: str = "onnx"

    backend: ClassVar[str] = "onnx"

    def check_machine(self, positions: int) -> None:
        """Refuse a machine without ONNX Runtime."""
        from bort.measure.runtime import require_onnx

        super().check_machine(positions)
        require_onnx()

    def converter(self) -> Converter | None:
        """Return the conversion to ONNX."""
        from bort.export.convert import onnx_file

        return onnx_file
