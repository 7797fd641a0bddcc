"""Latency that can be trusted, exact sizes, and the figures others published.

Public names: :func:`~bort.measure.latency.measure`, :func:`~bort.measure.shapes.measure_shapes`,
:class:`~bort.measure.config.BenchmarkConfig`, :func:`~bort.measure.sizes.size_table`.
"""
