"""Error tables made from formulas: smooth power laws, noisy ones, and learning curves that cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bort.architecture import ROBERTA_LARGE, Architecture
from bort.files import write_text
from bort.search.config import SearchConfig, TableErrorConfig
from bort.search.estimators import TableEstimator
from bort.search.problem import Problem
from bort.search.space import SearchSpace

PAPER = {
    "depth": [2, 4, 6, 8, 10, 12],
    "heads": [4, 8, 12, 16],
    "hidden": [512, 768, 1024],
    "intermediate": [256, 512, 768, 1024, 3072],
}
SMALL = {"depth": [1, 2, 3, 4], "heads": [4], "hidden": [64, 96, 128, 160, 192, 256], "intermediate": [128, 256, 384, 512]}
TINY = {"depth": [1, 2, 3], "heads": [2, 4], "hidden": [32, 64], "intermediate": [64, 128]}
GEOMETRIC = (50, 100, 200, 400, 800, 1600, 3200, 6400)
LINEAR = (100, 200, 300, 400, 500, 600, 700, 800)
SHORT = (10, 20, 40)


@dataclass(frozen=True)
class Family:
    """How errors scatter around the formula; every number is a standard deviation of a logarithm.

    Args:
        lasting: Of a candidate's whole curve.
        single: Of each error by itself.
        speed: Of how fast a candidate learns; makes curves cross.
        decay: Of how its curve bends; makes curves cross.
        slow_giants: Exponent by which larger candidates learn more slowly.
    """

    lasting: float = 0.0
    single: float = 0.0
    speed: float = 0.0
    decay: float = 0.0
    slow_giants: float = 0.0


FAMILIES = {
    "smooth": Family(),
    "noisy": Family(lasting=0.01, single=0.003),
    "white": Family(single=0.01),
    "crossing": Family(lasting=0.005, single=0.002, speed=0.2, decay=0.05, slow_giants=0.5),
    "wild": Family(lasting=0.005, single=0.002, speed=0.3, decay=0.2, slow_giants=0.5),
}


def errors(shapes: Sequence[Architecture], family: Family, rungs: Sequence[int], seed: int) -> np.ndarray:
    """Returns errors [N, R]: an asymptote that falls with size and depth, approached by a power of the steps."""
    draw = np.random.default_rng(seed)
    numbers = np.array([[s.depth, s.heads, s.hidden, s.intermediate, s.encoder_parameters()] for s in shapes], dtype=np.float64)
    depth, heads, hidden, _, size = np.log(numbers / np.median(numbers, axis=0)).T
    count = len(shapes)
    falls = size * draw.uniform(0.05, 0.35) + depth * draw.uniform(-0.1, 0.2) + hidden * draw.uniform(-0.05, 0.1)
    falls += heads * draw.uniform(-0.05, 0.05)
    floor = draw.uniform(0.0, 0.5)
    asymptote = draw.uniform(0.5, 6.0) * (floor + (1.0 - floor) * np.exp(-falls))
    speed = size * (draw.uniform(-0.3, 0.3) - family.slow_giants) + draw.normal(0.0, 1.0, count) * family.speed
    decay = draw.uniform(0.2, 0.8) * np.exp(draw.normal(0.0, 1.0, count) * family.decay)
    progress = np.exp(speed)[:, None] * 20.0 * np.asarray(rungs, dtype=np.float64) / rungs[-1]
    curves = asymptote[:, None] * (1.0 + draw.uniform(0.3, 2.0) * progress ** -decay[:, None])
    scatter = family.lasting * draw.normal(0.0, 1.0, (count, 1)) + family.single * draw.normal(0.0, 1.0, (count, len(rungs)))
    return curves * np.exp(scatter)


def write_table(path: Path, shapes: Sequence[Architecture], rungs: Sequence[int], values: np.ndarray) -> Path:
    """Writes errors as a table."""
    lines = ["depth,heads,hidden,intermediate,steps,error"]
    for shape, row in zip(shapes, values, strict=True):
        numbers = f"{shape.depth},{shape.heads},{shape.hidden},{shape.intermediate}"
        lines += [f"{numbers},{steps},{float(error)!r}" for steps, error in zip(rungs, row, strict=True)]
    # In one piece: the workers of a test write the same table, and read it.
    write_text(path, "\n".join(lines) + "\n")
    return path


def table_problem(
    folder: Path,
    space: dict[str, list[int]],
    family: str = "smooth",
    rungs: Sequence[int] = SHORT,
    seed: int = 0,
    search: SearchConfig | None = None,
    fingerprint: str = "",
) -> Problem:
    """Returns a problem on a table that is written to ``folder``."""
    ordered = SearchSpace(**space)
    shapes = list(ordered)
    path = write_table(folder / f"{family}-{seed}.csv", shapes, rungs, errors(shapes, FAMILIES[family], rungs, seed))
    largest = Architecture(*(2 * max(values) if name != "heads" else max(values) for name, values in space.items()))
    return Problem(
        space=ordered,
        maximum_point=ROBERTA_LARGE if space is PAPER else largest,
        parameters=lambda shape: shape.parameters(1000, 64),
        latency=lambda shape: float(shape.operations(64)),
        estimator=TableEstimator(TableErrorConfig(path=str(path)), ordered),
        search=search or SearchConfig(),
        fingerprint=fingerprint,
    )
