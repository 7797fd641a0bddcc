"""BortBench: the learning curves of 96 BERT shapes, each distilled from a real teacher on real text. See ``datasheet.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.files import read_json
from bort.search.config import SearchConfig
from bort.search.estimators import TableEstimator
from bort.search.problem import Problem
from bort.search.space import SearchSpace
from bort.search.table import BORTBENCH, SHAPE, read_table

FOLDER = Path(__file__).parent


def manifest() -> dict[str, Any]:
    """Returns what the table was made from: the searches with their settings and digests, and the latencies' circumstances."""
    record: dict[str, Any] = read_json(FOLDER / "manifest.json")
    return record


def load(*, seed: int | None = None, column: str = "error", search: SearchConfig | None = None) -> Problem:
    """Returns BortBench as a problem for :func:`~bort.search.worker.run_search`; i is the count of operations at 128 tokens.

    Args:
        seed: The seed of the errors; the lowest, which every architecture has, when not given.
        column: The column that is e.
        search: Limits and the scale of e.

    Raises:
        ConfigurationError: The table has no such column, or not every architecture has the seed.
    """
    table, record = read_table(BORTBENCH, column), manifest()
    rows = record["embedding_rows"]

    def parameters(shape: Architecture) -> int:
        return shape.parameters(rows, 0)

    shapes = {shape for shape, _ in table.curves}
    values = [sorted({getattr(shape, name) for shape in shapes}) for name in SHAPE]
    space = SearchSpace(*values, parameters=parameters)
    return Problem(
        space=space,
        maximum_point=Architecture.parse(record["maximum_point"]),
        parameters=parameters,
        latency=Architecture.operations,
        estimator=TableEstimator(table, space, seed),
        search=search or SearchConfig(),
    )
