"""How often strategies find the exhaustive winner, and at what cost, on tables made from formulas. Not a test: run it by hand.

    python tests/search/measure_bound.py --seeds 100 --strategies bound,ose,random,tpe,nsga2

At equal cost: ose gets the stride, the samplers the number of candidates, that a tenth of the exhaustive steps pays for.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from synthetic_tables import FAMILIES, GEOMETRIC, LINEAR, PAPER, SMALL, table_problem  # noqa: E402

from bort.search.config import BoundConfig, MemoryStorageConfig, Nsga2Config, OseConfig, RandomConfig, StrategyConfig, TpeConfig  # noqa: E402
from bort.search.run import run_search  # noqa: E402

SPACES = {"paper": PAPER, "small": SMALL}
RUNGS = {"geometric": GEOMETRIC, "linear": LINEAR}


def strategies(count: int) -> dict[str, StrategyConfig]:
    """Returns every strategy with a tenth of the exhaustive cost to spend."""
    trials = count // 10
    return {
        "bound": BoundConfig(),
        "ose": OseConfig(stride=10),
        "random": RandomConfig(trials=trials),
        "tpe": TpeConfig(trials=trials, startup=max(3, trials // 3)),
        "nsga2": Nsga2Config(trials=trials, population=max(4, trials // 3)),
    }


def replay(job: tuple[str, str, str, str, int]) -> tuple[bool, float, float, bool]:
    """Returns whether the winner was found, the regret in W, the share of the exhaustive steps, and whether it was certified."""
    space, family, rungs, strategy, seed = job
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        problem = table_problem(folder, SPACES[space], family, RUNGS[rungs], seed)
        config = strategies(len(problem.space))[strategy]
        found = run_search(problem, config, seed=seed, storage=MemoryStorageConfig(), directory=folder)
        last = RUNGS[rungs][-1]
        errors = {c.index: problem.estimator.evaluate(c.architecture, {}, last, folder, None).error for c in problem.candidates}  # type: ignore[arg-type]
        best = max(problem.w(c, errors[c.index]) for c in problem.candidates)
    regret = 1.0 - found["winner"]["w"] / best
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
    parser.add_argument("--spaces", default="paper,small")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--rungs", default="geometric,linear")
    parser.add_argument("--strategies", default="bound")
    parser.add_argument("--workers", type=int, default=2)
    options: Any = parser.parse_args()
    print("space  family    rungs      strategy  found  95 % interval   regret   cost   most   certified  wrongly")
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for space in options.spaces.split(","):
            for family in options.families.split(","):
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
