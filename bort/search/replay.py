"""Replays of strategies on a table of errors: how often each finds the exhaustive winner, and at what cost."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bort.errors import BortError, ConfigurationError
from bort.events import Observer, Quiet
from bort.search.bench_config import ReplayConfig
from bort.search.config import BoundConfig, MemoryStorageConfig, Nsga2Config, OseConfig, RandomConfig, StrategyConfig, TpeConfig
from bort.search.estimators import TableEstimator
from bort.search.ledger import usable
from bort.search.problem import Problem
from bort.search.quantity_config import TableErrorConfig
from bort.search.resampling import SeedDraws
from bort.search.run import run_search
from bort.search.table import read_table

#: A strategy that draws nothing gives the same on the same table, whatever its seed.
DETERMINISTIC = ("bound", "ose")


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


def strategy_at(name: str, budget: float, candidates: int) -> StrategyConfig:
    """Returns a strategy that spends at most a share of the exhaustive steps.

    Args:
        name: The strategy.
        budget: The share, above 0 and up to 1. A share that pays for less than one full training is taken for one, by ``bound``
            for two.
        candidates: How many the exhaustive search would train.
    """
    trials = max(1, math.floor(budget * candidates + 1e-9))
    if name == "bound":
        # It screens before it trains to the end, so the price of one full training would leave it without any.
        return BoundConfig(budget=budget, minimum_full=1 if budget * candidates >= 1.5 else 2)
    if name == "ose":
        return OseConfig(stride=math.ceil(candidates / trials))
    if name == "random":
        return RandomConfig(trials=trials)
    if name == "tpe":
        return TpeConfig(trials=trials, startup=max(3, trials // 3))
    if name == "nsga2":
        return Nsga2Config(trials=trials, population=max(4, trials // 3))
    raise ConfigurationError("replay.strategies", name, "use bound, ose, random, tpe or nsga2")


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
            raise ConfigurationError("error", estimator.name, "replays need error=table")
        self.problem, self.config, self.seed, self._estimator = problem, config, table.seed, estimator
        self.table = read_table(table)
        shapes = list(problem.space)
        self.draws = SeedDraws(self.table, shapes, estimator.rungs, self.table.of_seed(table.seed))

    def problem_of(self, table: str, seed: int) -> Problem:
        """Returns the problem with the errors of one replay."""
        if table == "measured":
            return self.problem
        return replace(self.problem, estimator=self._estimator.with_errors(self.draws.draw(seed), f"drawn {seed}"))

    def exhaustive(self, problem: Problem) -> list[tuple[float, str]]:
        """Returns W and name of every candidate that the exhaustive search could choose, the best first.

        Raises:
            BortError: Every training failed.
        """
        last, scored = self._estimator.rungs[-1], []
        for candidate in problem.feasible:
            error = problem.estimator.evaluate(candidate.architecture, candidate.theta, last, Path(), Quiet()).error
            if usable(error):
                scored.append((problem.w(candidate, error), str(candidate.architecture)))
        if not scored:
            raise BortError(f"{self.table.path} holds no candidate within the limits whose training did not fail.")
        return sorted(scored, reverse=True)

    def replay(self, job: tuple[str, str, int]) -> list[Outcome]:
        """Returns the outcomes of one table, strategy and seed at every budget."""
        table, strategy, seed = job
        problem = self.problem_of(table, seed)
        best, name = self.exhaustive(problem)[0]
        return [self._replay(problem, table, strategy, budget, seed, best, name) for budget in self.config.budgets]

    def _replay(self, problem: Problem, table: str, strategy: str, budget: float, seed: int, best: float, name: str) -> Outcome:
        candidates = len(problem.feasible)
        config = strategy_at(strategy, budget, candidates)
        with tempfile.TemporaryDirectory(prefix="bort-replay-") as folder:
            try:
                found = run_search(problem, config, seed=seed, storage=MemoryStorageConfig(), directory=Path(folder))
            except BortError:
                # Everything that it trained failed, where there is something that fails.
                if len(self.exhaustive(problem)) == candidates:
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
    """Replays every strategy at every budget on as many tables as there are seeds, through :func:`~bort.search.run.run_search`.

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
    from bort.search.replay_result import describe, summarise

    config.check()
    observer = observer or Quiet()
    bench = Bench(make_problem(), table, config)
    jobs = [
        (kind, strategy, seed)
        for seed in range(config.seeds)
        for kind in config.tables
        for strategy in config.strategies
        if kind == "drawn" or seed == 0 or strategy not in DETERMINISTIC
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
