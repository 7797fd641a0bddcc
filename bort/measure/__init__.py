"""Latency that can be trusted, exact sizes, and the figures others published.

Public names: :func:`~bort.measure.latency.measure`, :func:`~bort.measure.shapes.measure_shapes`,
:class:`~bort.measure.config.BenchmarkConfig`, :func:`~bort.measure.sizes.size_table`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bort.measure.config import BenchmarkConfig
    from bort.measure.latency import measure
    from bort.measure.shapes import measure_shapes
    from bort.measure.sizes import size_table

__all__ = ["BenchmarkConfig", "measure", "measure_shapes", "size_table"]

_HOMES = {
    "BenchmarkConfig": "bort.measure.config",
    "measure": "bort.measure.latency",
    "measure_shapes": "bort.measure.shapes",
    "size_table": "bort.measure.sizes",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bort.measure' has no attribute '{name}'")
