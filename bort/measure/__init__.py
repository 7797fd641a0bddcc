"""Latency that can be trusted, exact sizes, and the figures others published.

Public names: :func:`~bort.measure.latency.measure`, :func:`~bort.measure.shapes.measure_shapes`,
:class:`~bort.measure.config.BenchmarkConfig`, :func:`~bort.measure.sizes.size_table`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bort.lazy import lazily

if TYPE_CHECKING:
    from bort.measure.config import BenchmarkConfig
    from bort.measure.latency import measure
    from bort.measure.shapes import measure_shapes
    from bort.measure.sizes import size_table

__all__ = ["BenchmarkConfig", "measure", "measure_shapes", "size_table"]

_HOMES = {
    "BenchmarkConfig": "config",
    "measure": "latency",
    "measure_shapes": "shapes",
    "size_table": "sizes",
}

__getattr__ = lazily(__name__, _HOMES)
