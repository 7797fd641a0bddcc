"""Error tables made from formulas: shapes of surfaces and of learning curves, and how single errors scatter around them.

Every family is a distribution over tables: its numbers are drawn anew for each seed. Those in ``TUNING`` are the ones that the
settings of ``bound`` were chosen on. Those in ``HELD_OUT`` use other surfaces and other curves, and served only to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bort.architecture import ROBERTA_LARGE, Architecture
from bort.files import write_text
from bort.quantities import ErrorInputs
from bort.search.config import SearchConfig
from bort.search.estimator_config import TableErrorConfig
from bort.search.problem import Problem
from bort.search.space import SearchSpace

Array = np.ndarray[Any, np.dtype[np.float64]]
Draw = np.random.Generator

PAPER = {
    "depth": [2, 4, 6, 8, 10, 12],
    "heads": [4, 8, 12, 16],
    "hidden": [512, 768, 1024],
    "intermediate": [256, 512, 768, 1024, 3072],
}
SMALL = {"depth": [1, 2, 3, 4], "heads": [4], "hidden": [64, 96, 128, 160, 192, 256], "intermediate": [128, 256, 384, 512]}
BENCH = {"depth": [1, 2, 3, 4], "heads": [2, 4], "hidden": [64, 96, 128, 192], "intermediate": [128, 256, 512]}
MIDDLE = {"depth": [2, 3, 4, 6, 8], "heads": [4, 8], "hidden": [256, 384, 512], "intermediate": [256, 512, 768, 1024, 2048]}
LITTLE = {"depth": [2, 4, 6, 8], "heads": [8], "hidden": [256, 512], "intermediate": [512, 1024, 1536, 2048]}
LARGE = {
    "depth": [1, 2, 3, 4, 5, 6, 8, 10, 12, 16],
    "heads": [4, 8],
    "hidden": [128, 256, 384, 512, 768],
    "intermediate": [128, 256, 384, 512, 768, 1024, 1536, 2048, 2560, 3072],
}
TINY = {"depth": [1, 2, 3], "heads": [2, 4], "hidden": [32, 64], "intermediate": [64, 128]}
GEOMETRIC = (50, 100, 200, 400, 800, 1600, 3200, 6400)
LINEAR = (100, 200, 300, 400, 500, 600, 700, 800)
IRREGULAR = (10, 35, 60, 150, 240, 500, 650, 1100, 1600, 2000)
COARSE = (500, 1000, 2000, 4000)
SHORT = (10, 20, 40)


@dataclass(frozen=True)
class Family:
    """A distribution over tables; every scatter is a standard deviation of a logarithm.

    Args:
        surface: Gives −log of the error that can be learnt away, of a shape.
        curve: Gives the errors of a curve.
        lasting: Scatter of a candidate's whole curve.
        single: Scatter of each error by itself.
        speed: Scatter of how fast a candidate learns; makes curves cross.
        decay: Scatter of how its curve bends; makes curves cross.
        slow_giants: Exponent by which larger candidates learn more slowly.
    """

    surface: Callable[[Array, Draw], Array]
    curve: Callable[[Array, Array, Array, Array, Draw], Array]
    lasting: float = 0.0
    single: float = 0.0
    speed: float = 0.0
    decay: float = 0.0
    slow_giants: float = 0.0


def power(numbers: Array, draw: Draw) -> Array:
    """A power law of the size, with exponents of its own for depth, width and heads."""
    depth, heads, hidden, _, size = centred_logs(numbers)
    falls = size * draw.uniform(0.05, 0.35) + depth * draw.uniform(-0.1, 0.2) + hidden * draw.uniform(-0.05, 0.1)
    return falls + heads * draw.uniform(-0.05, 0.05)


def optimum(numbers: Array, draw: Draw) -> Array:
    """A power law whose depth and width of a head are best somewhere inside the space."""
    depth, heads, hidden, inner, size = centred_logs(numbers)
    best_depth, best_head = draw.uniform(-0.5, 1.0), draw.uniform(-0.7, 0.7)
    falls = size * draw.uniform(0.05, 0.3) + inner * draw.uniform(0.0, 0.1)
    falls -= draw.uniform(0.02, 0.2) * (depth - best_depth) ** 2
    return falls - draw.uniform(0.0, 0.06) * (hidden - heads - best_head) ** 2


def levels(numbers: Array, draw: Draw) -> Array:
    """An effect for each level of each of the four numbers, mostly falling, with nothing smooth between two levels."""
    falls = np.zeros(len(numbers))
    for column, (mean, spread) in enumerate(((0.08, 0.06), (0.0, 0.02), (0.06, 0.05), (0.05, 0.04))):
        _, level = np.unique(numbers[:, column], return_inverse=True)
        falls += np.cumsum(draw.normal(mean, spread, level.max() + 1))[level]
    return falls - np.median(falls)


def sums(numbers: Array, draw: Draw) -> Array:
    """Each number has an error of its own, and the errors add up: the smallest number is the bottleneck."""
    ratios = np.exp(centred_logs(numbers))
    error = 0.05 + sum(draw.uniform(0.05, 1.0) * ratios[column] ** -draw.uniform(0.2, 1.2) for column in (0, 2, 3))
    error = error + draw.uniform(0.0, 0.04) * np.abs(np.log2(ratios[1]) - draw.uniform(-1.0, 1.0))
    return -np.log(error / np.median(error))


def waves(numbers: Array, draw: Draw) -> Array:
    """A trend in size and a smooth random function of all four numbers together."""
    logs = centred_logs(numbers)
    x = logs[:4] / np.maximum(logs[:4].std(axis=1, keepdims=True), 1e-9)
    phases = x.T @ (draw.normal(0.0, 1.0, (4, 64)) / np.array([2.0, 4.0, 2.0, 3.0])[:, None]) + draw.uniform(0.0, 2 * np.pi, 64)
    bumps = np.sqrt(2.0 / 64) * np.cos(phases) @ draw.normal(0.0, 1.0, 64)
    return logs[4] * draw.uniform(0.05, 0.3) + draw.uniform(0.03, 0.12) * bumps


def aspect(numbers: Array, draw: Draw) -> Array:
    """A power law of the size that loses by an unhappy ratio of width to depth, of inner to outer width, and width of a head."""
    depth, heads, hidden, inner, size = centred_logs(numbers)
    size = size - draw.uniform(0.05, 0.3) * (hidden - depth - draw.uniform(-0.7, 0.7)) ** 2
    size = size - draw.uniform(0.0, 0.1) * (inner - hidden - draw.uniform(-0.5, 0.5)) ** 2
    return draw.uniform(0.15, 0.4) * (size - draw.uniform(0.0, 0.1) * (hidden - heads - draw.uniform(-0.7, 0.7)) ** 2)


def steep(numbers: Array, draw: Draw) -> Array:
    """An error that falls towards nothing: a large share of it goes with every doubling of the size."""
    return 3.0 * aspect(numbers, draw)


def shallow(numbers: Array, draw: Draw) -> Array:
    """Shapes that hardly differ, and heads that do not matter at all."""
    numbers = numbers.copy()
    numbers[:, 1] = 1.0
    return 0.25 * aspect(numbers, draw)


def power_curve(asymptote: Array, speed: Array, decay: Array, time: Array, draw: Draw) -> Array:
    """An asymptote that is approached by a power of the steps."""
    progress = np.exp(speed)[:, None] * 20.0 * time
    decay = draw.uniform(0.2, 0.8) * decay[:, None]
    return asymptote[:, None] * (1.0 + draw.uniform(0.3, 2.0) * progress**-decay)


def plateau_curve(asymptote: Array, speed: Array, decay: Array, time: Array, draw: Draw) -> Array:
    """A plateau that all share, then a fall over some doublings."""
    start = 1.3 * asymptote.max() * draw.uniform(1.0, 2.0)
    middle = np.log(draw.uniform(0.01, 0.08)) - speed
    fallen = 1.0 / (1.0 + np.exp(-(np.log(time) - middle[:, None]) * draw.uniform(1.0, 2.5) * decay[:, None]))
    return start + (asymptote[:, None] - start) * fallen


def warm_curve(asymptote: Array, speed: Array, decay: Array, time: Array, draw: Draw) -> Array:
    """Flat at first, then a power of the steps, down to a floor that all share."""
    floor = draw.uniform(0.0, 0.5) * asymptote.min()
    begins = draw.uniform(0.005, 0.05) * np.exp(-speed)[:, None]
    tall = draw.uniform(2.0, 5.0)
    fall = (1.0 + time / begins) ** -(draw.uniform(0.3, 0.8) * decay[:, None])
    return floor + (asymptote[:, None] - floor) * (1.0 + tall * fall)


def broken_curve(asymptote: Array, speed: Array, decay: Array, time: Array, draw: Draw) -> Array:
    """Two powers of the steps, one after the other, and no floor."""
    first, second, smooth = draw.uniform(0.02, 0.15), draw.uniform(0.1, 0.5), draw.uniform(0.2, 1.0)
    relative = time / (draw.uniform(0.02, 0.2) * np.exp(-speed)[:, None])
    bend = (1.0 + relative ** (1.0 / smooth)) ** (-smooth * second * decay[:, None])
    return 3.0 * asymptote[:, None] * relative**-first * bend


def stretched_curve(asymptote: Array, speed: Array, decay: Array, time: Array, draw: Draw) -> Array:
    """A stretched exponential."""
    lasts = draw.uniform(0.02, 0.2) * np.exp(-speed)[:, None]
    return asymptote[:, None] * (
        1.0 + draw.uniform(1.0, 4.0) * np.exp(-((time / lasts) ** (draw.uniform(0.4, 0.8) * decay[:, None])))
    )


def annealed_curve(asymptote: Array, speed: Array, decay: Array, time: Array, draw: Draw) -> Array:
    """As :func:`warm_curve`, and a drop over the last fifth, when the learning rate goes to nothing; slow learners gain more."""
    drop = draw.uniform(0.03, 0.15) * np.exp(-0.5 * speed)
    anneal = 1.0 - drop[:, None] * np.clip((time - 0.8) / 0.2, 0.0, 1.0)
    return warm_curve(asymptote, speed, decay, time, draw) * anneal


TUNING = {
    "smooth": Family(power, power_curve),
    "noisy": Family(power, power_curve, lasting=0.01, single=0.003),
    "white": Family(power, power_curve, single=0.01),
    "crossing": Family(power, power_curve, lasting=0.005, single=0.002, speed=0.2, decay=0.05, slow_giants=0.5),
    "wild": Family(power, power_curve, lasting=0.005, single=0.002, speed=0.3, decay=0.2, slow_giants=0.5),
    "optimum": Family(optimum, power_curve, single=0.005, slow_giants=0.2),
    "plateau": Family(optimum, plateau_curve, single=0.005, speed=0.1, slow_giants=0.3),
}
HELD_OUT = {
    "levels": Family(levels, warm_curve, single=0.005, slow_giants=0.1),
    "sums": Family(sums, broken_curve, single=0.01, slow_giants=0.2),
    "waves": Family(waves, stretched_curve, lasting=0.002, single=0.005, slow_giants=0.2),
    "annealed": Family(aspect, annealed_curve, lasting=0.005, single=0.002, speed=0.1, slow_giants=0.3),
    "steep": Family(steep, warm_curve, single=0.02, slow_giants=0.3),
    "late": Family(levels, broken_curve, speed=0.2, decay=0.05, slow_giants=0.8),
    "shallow": Family(shallow, stretched_curve, single=0.005),
    "rough": Family(sums, annealed_curve, single=0.02, slow_giants=0.1),
}
FAMILIES = TUNING | HELD_OUT


def centred_logs(numbers: Array) -> Array:
    """Returns log of depth, heads, hidden size, intermediate size and size, each less that of its median, [5, N]."""
    return np.log(numbers / np.median(numbers, axis=0)).T


def errors(shapes: Sequence[Architecture], family: Family, rungs: Sequence[int], seed: int, scatter: bool = True) -> Array:
    """Returns errors [N, R]; without ``scatter``, those that the shape alone explains."""
    draw = np.random.default_rng(seed)
    numbers = np.array([[s.depth, s.heads, s.hidden, s.intermediate, s.encoder_parameters()] for s in shapes], dtype=np.float64)
    size, count = centred_logs(numbers)[4], len(shapes)
    falls = family.surface(numbers, draw)
    floor = draw.uniform(0.0, 0.5) if family.surface is not steep else 0.0
    asymptote = draw.uniform(0.5, 6.0) * (floor + (1.0 - floor) * np.exp(-falls))
    # Drawn in any case, so that a table without scatter is that of the same surface.
    own = draw.normal(0.0, 1.0, (4, count)) * scatter
    every = draw.normal(0.0, 1.0, (count, len(rungs))) * scatter
    speed = size * (draw.uniform(-0.3, 0.3) - family.slow_giants) + own[0] * family.speed
    time = np.asarray(rungs, dtype=np.float64) / rungs[-1]
    curves = family.curve(asymptote, speed, np.exp(own[1] * family.decay), time, draw)
    return curves * np.exp(family.lasting * own[2][:, None] + family.single * every)


def write_table(path: Path, shapes: Sequence[Architecture], rungs: Sequence[int], values: Array) -> Path:
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
    """Returns a problem on a table that is written to ``folder``.

    Spaces of large shapes are measured as the command measures them where no teacher says otherwise; those of small shapes
    against a point twice as large, with few words.
    """
    ordered = SearchSpace(**space)
    shapes = list(ordered)
    path = write_table(folder / f"{family}-{seed}.csv", shapes, rungs, errors(shapes, FAMILIES[family], rungs, seed))
    usual = max(space["hidden"]) > 256
    largest = Architecture(*(2 * max(values) if name != "heads" else max(values) for name, values in space.items()))
    return Problem(
        space=ordered,
        maximum_point=ROBERTA_LARGE if usual else largest,
        parameters=Architecture.parameters if usual else lambda shape: shape.parameters(1000, 64),
        latency=(lambda shape: float(shape.operations())) if usual else lambda shape: float(shape.operations(64)),
        estimator=TableErrorConfig(path=str(path)).build(ErrorInputs(list(ordered))),
        search=search or SearchConfig(),
        fingerprint=fingerprint,
    )
