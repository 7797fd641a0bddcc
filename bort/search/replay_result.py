"""What replays add up to: rates and means with intervals, comparisons pair by pair, and what the table itself is like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bort.search.bench_config import ReplayConfig
from bort.search.front import kendall_tau

if TYPE_CHECKING:
    from bort.search.replay import Bench, Outcome

Array = npt.NDArray[np.float64]

#: Regret up to which a winner counts as as good as the best.
NEAR = 0.01


def rate(successes: int, count: int, confidence: float) -> dict[str, float]:
    """Returns a share with its Wilson interval, which is sound for shares near 0 and 1 as well."""
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(confidence, method="wilson")
    return {"value": successes / count, "low": float(interval.low), "high": float(interval.high)}


def mean(values: Sequence[float], config: ReplayConfig) -> dict[str, float]:
    """Returns a mean with its percentile bootstrap interval."""
    sample: Array = np.asarray(values, dtype=np.float64)
    generator = np.random.Generator(np.random.Philox(key=[config.resamples, len(sample)]))
    means = sample[generator.integers(0, len(sample), size=(config.resamples, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - config.confidence) / 2, (1 + config.confidence) / 2])
    return {"value": float(sample.mean()), "low": float(low), "high": float(high)}


def summarise(outcomes: Sequence[Outcome], config: ReplayConfig) -> dict[str, Any]:
    """Returns ``rows`` and ``comparisons``.

    Args:
        outcomes: All replays.
        config: What was replayed.

    Returns:
        ``rows``: for each kind of table, strategy and budget ``replays``, ``success`` (the share of replays that found the
        exhaustive winner, with its Wilson interval), ``near`` (the share with a regret of at most 1 %), ``regret`` (the mean of
        1 − W/W*, with its bootstrap interval), ``worst``, ``cost`` (mean and largest share of the exhaustive steps),
        ``certified`` (the share in which the strategy itself said that it had found the winner) and ``wrongly`` (the share in
        which it said so and had not). ``comparisons``: for each budget, on drawn tables, by how much the first strategy is ahead
        of each other one in success and in regret; the intervals are of differences pair by pair, as both saw the same tables.
    """
    cells: dict[tuple[str, str, float], list[Outcome]] = {}
    for outcome in outcomes:
        cells.setdefault((outcome.table, outcome.strategy, outcome.budget), []).append(outcome)
    rows: list[dict[str, Any]] = [
        {
            "table": table,
            "strategy": strategy,
            "budget": budget,
            "replays": len(found),
            "success": rate(sum(outcome.found for outcome in found), len(found), config.confidence),
            "near": rate(sum(outcome.regret <= NEAR for outcome in found), len(found), config.confidence),
            "regret": mean([outcome.regret for outcome in found], config),
            "worst": max(outcome.regret for outcome in found),
            "cost": {
                "mean": float(np.mean([outcome.cost for outcome in found])),
                "most": max(outcome.cost for outcome in found),
            },
            "certified": sum(outcome.certified for outcome in found) / len(found),
            "wrongly": sum(outcome.certified and not outcome.found for outcome in found) / len(found),
        }
        for (table, strategy, budget), found in cells.items()
    ]
    order = {name: place for place, name in enumerate([*config.tables, *config.strategies])}
    rows.sort(key=lambda row: (order[row["table"]], row["budget"], order[row["strategy"]]))
    return {"rows": rows, "comparisons": _comparisons(cells, config)}


def _comparisons(cells: dict[tuple[str, str, float], list[Outcome]], config: ReplayConfig) -> list[dict[str, Any]]:
    first, *others = config.strategies
    found = []
    for budget in config.budgets if "drawn" in config.tables else []:
        ours = {outcome.seed: outcome for outcome in cells["drawn", first, budget]}
        for other in others:
            pairs = [(ours[outcome.seed], outcome) for outcome in cells["drawn", other, budget]]
            found.append(
                {
                    "budget": budget,
                    "strategy": first,
                    "against": other,
                    "success": mean([float(one.found) - float(two.found) for one, two in pairs], config),
                    "regret": mean([two.regret - one.regret for one, two in pairs], config),
                }
            )
    return found


def describe(bench: Bench) -> dict[str, Any]:
    """Returns what the table holds: its winner, by how much it wins, how its rungs rank, and how often draws agree with it."""
    problem, table, rungs = bench.problem, bench.table, list(bench.problem.estimator.rungs)
    scored = bench.exhaustive(problem)
    errors = table.of_seed(bench.seed)
    shapes = [candidate.architecture for candidate in problem.feasible]
    last = [errors[shape, rungs[-1]] for shape in shapes]
    drawn = Counter(bench.exhaustive(bench.problem_of("drawn", seed))[0][1] for seed in range(bench.config.seeds))
    return {
        "path": str(table.path),
        "digest": table.digest,
        "candidates": len(problem.feasible),
        "rungs": rungs,
        "exhaustive_steps": len(problem.feasible) * rungs[-1],
        "seeds": table.seeds,
        "several_seeds": bench.draws.several,
        "scatter": bench.draws.scatter,
        "maximum_point": str(problem.maximum_point),
        "winner": {"name": scored[0][1], "w": scored[0][0]},
        "margin": 1.0 - scored[1][0] / scored[0][0] if len(scored) > 1 else None,
        "within_one_percent": sum(w >= 0.99 * scored[0][0] for w, _ in scored),
        "kendall_tau": [
            {"steps": steps, "value": kendall_tau([errors[shape, steps] for shape in shapes], last)} for steps in rungs[:-1]
        ],
        "drawn_winners": dict(drawn.most_common()),
    }
