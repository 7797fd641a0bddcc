"""Replays of strategies on a table of errors: how often each finds the exhaustive winner, and at what cost."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bort.benchmarks.config import ReplayConfig
from bort.benchmarks.resampling import SeedDraws
from bort.errors import BortError, ConfigurationError
from bort.observer import Observer, Quiet
from bort.randomness import keyed_generator
from bort.search.estimator_config import TableErrorConfig
from bort.search.estimators import TableEstimator
from bort.search.pareto import kendall_tau
from bort.search.problem import Problem
from bort.search.storage.config import MemoryStorageConfig
from bort.search.strategies.config import STRATEGIES
from bort.search.w import check_winner, precedence, usable
from bort.search.worker import run_search
from bort.settings import check_settings
from bort.statistics import percentile_interval

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
    generator = keyed_generator(config.resamples, len(sample))
    means = sample[generator.integers(0, len(sample), size=(config.resamples, len(sample)))].mean(axis=1)
    return {"value": float(sample.mean()), **percentile_interval(means, config.confidence)}


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


@dataclass(frozen=True)
class Outcome:
    """One replay.

    Args:
        table: ``drawn`` or ``measured``.
        strategy: The strategy's name.
        budget: What it was allowed to spend, as a share of the exhaustive steps.
        seed: Of the draw and of the strategy.
        winner: The architecture that it found; empty where everything that it trained had failed.
        best: The architecture that the exhaustive search finds on that table.
        regret: By how much the winner's W falls short of the best, as a share of the best.
        cost: Training steps that it spent, as a share of the exhaustive steps.
        certified: Whether the strategy itself said that its winner is the best, within its confidence.
    """

    table: str
    strategy: str
    budget: float
    seed: int
    winner: str
    best: str
    regret: float
    cost: float
    certified: bool = False

    @property
    def found(self) -> bool:
        """Whether the winner is as good as the best."""
        return self.regret <= 0.0


class Bench:
    """A problem whose errors are in a table, and everything that a replay of it needs.

    Args:
        problem: The problem; its estimator is a :class:`~bort.search.estimators.TableEstimator`.
        table: Where the errors are.
        config: What is replayed.
    """

    def __init__(self, problem: Problem, table: TableErrorConfig, config: ReplayConfig) -> None:
        estimator = problem.estimator
        if not isinstance(estimator, TableEstimator):
            raise ConfigurationError("error", estimator.name, "table in a replay")
        self.problem, self.config, self.seed, self._estimator = problem, config, table.seed, estimator
        self.table = table.read()
        shapes = list(problem.space)
        self.draws = SeedDraws(self.table, shapes, estimator.rungs, self.table.of_seed(table.seed))

    def problem_of(self, table: str, seed: int) -> Problem:
        """Returns the problem with the errors of one replay."""
        if table == "measured":
            return self.problem
        return replace(self.problem, estimator=self._estimator.with_errors(self.draws.draw(seed), f"drawn {seed}"))

    def exhaustive(self, problem: Problem) -> list[tuple[float, str]]:
        """Return W and name of every candidate that the exhaustive search could choose, the best first.

        Raises:
            BortError: Every training failed, or no W is above 0 with the scale of the error.
        """
        last, errors = self._estimator.rungs[-1], []
        for candidate in problem.feasible:
            error = problem.estimator.evaluate(candidate.architecture, candidate.theta, last, Path(), Quiet()).error
            if usable(error):
                errors.append((candidate, error))
        if not errors:
            raise BortError(f"{self.table.path} holds no candidate within the limits whose training did not fail.")
        scored = [(problem.w(candidate, error), candidate) for candidate, error in errors]
        scored.sort(key=lambda row: precedence(row[0], row[1].index))
        check_winner(scored[0][0], (error for _, error in errors), problem.scale)
        return [(w, str(candidate.architecture)) for w, candidate in scored]

    def replay(self, job: tuple[str, str, int]) -> list[Outcome]:
        """Returns the outcomes of one table, strategy and seed at every budget."""
        table, strategy, seed = job
        problem = self.problem_of(table, seed)
        best, name = self.exhaustive(problem)[0]
        return [self._replay(problem, table, strategy, budget, seed, best, name) for budget in self.config.budgets]

    def _replay(self, problem: Problem, table: str, strategy: str, budget: float, seed: int, best: float, name: str) -> Outcome:
        candidates = len(problem.feasible)
        config = STRATEGIES[strategy].at_budget(budget, candidates)
        assert config is not None
        with tempfile.TemporaryDirectory(prefix="bort-replay-") as folder:
            try:
                found = run_search(problem, config, seed=seed, storage=MemoryStorageConfig(), directory=Path(folder))
            except BortError as error:
                # Everything that it trained may have failed, or have W = 0 with the complement.
                without_winner = isinstance(error, ConfigurationError) and error.key == "search.error_scale"
                if not without_winner and len(self.exhaustive(problem)) == candidates:
                    raise
                return Outcome(table, strategy, budget, seed, "", name, 1.0, budget)
        winner = found["winner"]
        return Outcome(
            table=table,
            strategy=strategy,
            budget=budget,
            seed=seed,
            winner=winner["name"],
            best=name,
            regret=max(0.0, 1.0 - winner["w"] / best),
            cost=found["trained_steps"] / found["exhaustive_steps"],
            certified=bool(found["certificate"].get("certified")),
        )


def replay(
    make_problem: Callable[[], Problem],
    table: TableErrorConfig,
    config: ReplayConfig,
    *,
    workers: int = 1,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Replays every strategy at every budget on as many tables as there are seeds, through :func:`~bort.search.worker.run_search`.

    All strategies see the same drawn tables, so they can be compared pair by pair. On the measured table itself a strategy that
    draws nothing is replayed once.

    Args:
        make_problem: Makes the problem; where there are several workers each calls it, so it must be picklable.
        table: Where the errors are.
        config: Seeds, budgets and strategies.
        workers: Processes that replay.
        observer: Told of progress.

    Returns:
        ``rows`` (success, regret and cost of each strategy at each budget on each kind of table), ``comparisons``, ``benchmark``
        (what the table holds and how sure its winner is), ``outcomes`` (a row for each replay) and ``settings``.

    Raises:
        ConfigurationError: A setting cannot be used, or the errors are not in a table.
        BortError: A strategy cannot be run on the problem.
    """
    check_settings(config, "replay")
    observer = observer or Quiet()
    bench = Bench(make_problem(), table, config)
    jobs = [
        (kind, strategy, seed)
        for seed in range(config.seeds)
        for kind in config.tables
        for strategy in config.strategies
        if kind == "drawn" or seed == 0 or not STRATEGIES[strategy].deterministic
    ]
    outcomes: list[Outcome] = []
    with _runner(bench, make_problem, table, workers) as run:
        for done, found in enumerate(run(jobs)):
            outcomes += found
            observer.progress("replay", done + 1, len(jobs), f"{found[0].strategy}, seed {found[0].seed}")
    return {
        **summarise(outcomes, config),
        "benchmark": describe(bench),
        "settings": asdict(config),
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


_Job = tuple[str, str, int]

#: The bench of a worker process, made once when it starts.
_BENCH: list[Bench] = []


@contextmanager
def _runner(
    bench: Bench, make_problem: Callable[[], Problem], table: TableErrorConfig, workers: int
) -> Iterator[Callable[[list[_Job]], Iterator[list[Outcome]]]]:
    """Yields what runs jobs: this process, or as many others as there are workers."""
    if workers == 1:
        yield lambda jobs: map(bench.replay, jobs)
        return
    # Not forked: a process with threads, as one that delivers to MLflow has, must not be.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _open_bench, (make_problem, table, bench.config))
    try:
        yield lambda jobs: pool.map(_replay_job, jobs, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _open_bench(make_problem: Callable[[], Problem], table: TableErrorConfig, config: ReplayConfig) -> None:
    from threadpoolctl import threadpool_limits

    # The workers already take every processor that they may.
    threadpool_limits(1)
    _BENCH[:] = [Bench(make_problem(), table, config)]


def _replay_job(job: _Job) -> list[Outcome]:
    return _BENCH[0].replay(job)
