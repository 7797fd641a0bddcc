"""How often strategies find the exhaustive winner, and at what cost, on tables made from formulas. Not a test: run it by hand.

    python tests/search/measure_bound.py --families held-out --seeds 20 --strategies bound,ose,random,tpe,nsga2

At equal cost: ose gets the stride, the samplers the number of candidates, that a tenth of the exhaustive steps pays for. The
families ``tuning`` are those that the settings of ``bound`` were chosen on, ``held-out`` those that only judged it. ``oracle`` is
no strategy but a mark: it knows the error of every shape but for the scatter, and buys full trainings in that order. Where
scatter alone decides between near-ties, nobody who learns from shapes can do better; who reads learning curves can, as far as the
scatter lasts along a curve.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from bort.search.storage.config import MemoryStorageConfig
from bort.search.strategies.config import BoundConfig, Nsga2Config, OseConfig, RandomConfig, StrategyConfig, TpeConfig
from bort.search.worker import run_search
from tests.search import synthetic_tables as tables

SPACES = {
    "paper": tables.PAPER, "bench": tables.BENCH, "small": tables.SMALL, "middle": tables.MIDDLE, "little": tables.LITTLE,
    "large": tables.LARGE,
}  # fmt: skip
RUNGS = {
    "geometric": tables.GEOMETRIC, "linear": tables.LINEAR, "irregular": tables.IRREGULAR, "coarse": tables.COARSE,
    "short": tables.SHORT,
}  # fmt: skip
FAMILIES = {"tuning": list(tables.TUNING), "held-out": list(tables.HELD_OUT)}


def strategies(count: int) -> dict[str, StrategyConfig]:
    """Returns every strategy with a tenth of the exhaustive cost to spend."""
    trials = max(3, count // 10)
    return {
        "bound": BoundConfig(),
        "ose": OseConfig(stride=-(-count // trials)),
        "random": RandomConfig(trials=trials),
        "tpe": TpeConfig(trials=trials, startup=max(3, trials // 3)),
        "nsga2": Nsga2Config(trials=trials, population=max(4, trials // 3)),
    }


def replay(job: tuple[str, str, str, str, int]) -> tuple[bool, float, float, bool]:
    """Returns whether the winner was found, the regret in W, the share of the exhaustive steps, and whether it was certified."""
    space, family, rungs, strategy, seed = job
    steps = RUNGS[rungs]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        problem = tables.table_problem(folder, SPACES[space], family, steps, seed)
        shapes = [candidate.architecture for candidate in problem.candidates]
        values = [problem.estimator.evaluate(shape, {}, steps[-1], folder, None).error for shape in shapes]  # type: ignore[arg-type]
        w = [problem.w(candidate, error) for candidate, error in zip(problem.candidates, values, strict=True)]
        if strategy == "oracle":
            known = list(problem.space)
            surface = tables.errors(known, tables.FAMILIES[family], steps, seed, scatter=False)[:, -1]
            hoped = dict(zip(known, surface, strict=True))
            promise = [-problem.w(candidate, hoped[candidate.architecture]) for candidate in problem.candidates]
            bought = np.argsort(promise)[: max(3, len(w) // 10)]
            regret = 1.0 - max(w[place] for place in bought) / max(w)
            return regret <= 0.0, regret, len(bought) / len(w), False
        config = strategies(len(shapes))[strategy]
        found = run_search(problem, config, seed=seed, storage=MemoryStorageConfig(), directory=folder)
    regret = 1.0 - found["winner"]["w"] / max(w)
    return regret <= 0.0, regret, found["trained_steps"] / found["exhaustive_steps"], bool(found["certificate"].get("certified"))


def interval(successes: int, count: int) -> tuple[float, float]:
    """Returns the 95 % Wilson interval of a share."""
    z, share = 1.96, successes / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return centre - half, centre + half


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--spaces", default="paper,bench")
    parser.add_argument("--families", default="tuning", help="tuning, held-out, or names")
    parser.add_argument("--rungs", default="geometric,linear")
    parser.add_argument("--strategies", default="bound")
    parser.add_argument("--workers", type=int, default=2)
    options: Any = parser.parse_args()
    names = FAMILIES.get(options.families) or options.families.split(",")
    print("space  family    rungs      strategy  found  95 % interval   regret   cost   most   certified  wrongly")
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for space in options.spaces.split(","):
            for family in names:
                for rungs in options.rungs.split(","):
                    for strategy in options.strategies.split(","):
                        seeds = range(options.first, options.first + options.seeds)
                        rows = pool.map(replay, [(space, family, rungs, strategy, seed) for seed in seeds], chunksize=2)
                        found = sum(row[0] for row in rows)
                        low, high = interval(found, len(rows))
                        mean = [sum(row[place] for row in rows) / len(rows) for place in range(4)]
                        wrong = sum(row[3] and not row[0] for row in rows) / len(rows)
                        print(
                            f"{space:6} {family:9} {rungs:10} {strategy:8} {mean[0]:6.1%}  {low:6.1%}–{high:6.1%}"
                            f"  {mean[1]:7.5f}  {mean[2]:5.1%}  {max(row[2] for row in rows):5.1%}  {mean[3]:9.1%}  {wrong:7.1%}",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
