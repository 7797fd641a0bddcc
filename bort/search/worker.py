"""The study loop: read, decide, train, write, until the strategy is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bort.candidate import Evaluation
from bort.errors import BortError
from bort.observer import Observer, Quiet
from bort.optuna_storage import name_objectives
from bort.search.candidates import CandidateRecord, candidate_record
from bort.search.config import StorageConfig, StrategyConfig
from bort.search.engine import Engine, Job, LocalEngine, train
from bort.search.problem import Problem
from bort.search.storage.base import Coordination, open_coordination, pause
from bort.search.storage.errors import StudyLostError
from bort.search.study import Entry, Ledger, check_identity, objective_names
from bort.search.w import has_winner

if TYPE_CHECKING:
    from bort.search.strategies.base import Strategy


T = TypeVar("T")

#: Seconds for which a worker whose errors come at once keeps the study to itself, before it writes and lets others in.
HOLD_SECONDS = 1.0

#: Seconds between two looks at a study in which only other workers have something to do.
WAIT_SECONDS = 0.2

#: Seconds between two looks at a study while an engine trains: other workers may leave candidates behind.
ENGINE_SECONDS = 1.0

#: Seconds for which a worker waits for a database that was lost, and between two attempts.
LOST_SECONDS, ATTEMPT_SECONDS = 600.0, 1.0


def run_search(
    problem: Problem,
    strategy: StrategyConfig,
    *,
    seed: int = 0,
    storage: StorageConfig,
    directory: Path,
    engine: Engine | None = None,
    observer: Observer | None = None,
    on_candidate: Callable[[CandidateRecord], None] | None = None,
) -> dict[str, Any]:
    """Searches, alone or as one of any number of workers on the same storage, and returns the result once all of them are done.

    A worker may be killed at any moment: what it had recorded stays, and its candidate is taken up again from its last checkpoint
    by another worker or at the next start. A single worker that was killed and started again ends in the result of one that was
    not. A database may go away and come back meanwhile: training goes on, and what it found is written then.

    Args:
        problem: What is searched.
        strategy: How.
        seed: Fixes what the strategy draws.
        storage: Where the study is kept.
        directory: Holds the candidates' training state (``candidates/<fingerprint>``) and, in the end, ``certificate.json``.
        engine: Trains the candidates; by default this process, one at a time. Whoever made it closes it.
        observer: Told of progress.
        on_candidate: Called with every candidate that ends in this process, and at the start with those that had ended before.

    Returns:
        The result: ``winner``, ``candidates``, ``front``, ``hypervolume``, ``trained_steps``, ``exhaustive_steps``,
        ``sensitivity``, ``correlation``, ``maximum_point``, ``history``, ``constraints``, ``certificate``, ``space`` and
        ``strategy``.

    Raises:
        BortError: The problem cannot be searched, the storage cannot be used, the study was made for another problem, or every
            candidate failed.
        StudyLostError: The database went away, and did not come back in ten minutes.
    """
    from bort.search.result import build_result
    from bort.search.strategies.registry import make_strategy

    problem.check()
    _check_rungs(problem)
    chosen = make_strategy(strategy, problem, seed)
    directory = Path(directory)
    coordination = open_coordination(storage, directory)

    def opened() -> Ledger:
        return _open_study(problem, strategy, chosen, seed, storage, coordination)

    try:
        told = observer or Quiet()
        worker = _Worker(
            problem, chosen, opened, coordination, directory, engine or LocalEngine(problem.estimator, told), told, on_candidate
        )
        worker.work()
        report = worker.finish()
        worker.tell_ended()
        return build_result(problem, strategy, seed, worker.ledger, report, directory)
    finally:
        coordination.close()


def _check_rungs(problem: Problem) -> None:
    rungs = list(problem.estimator.rungs)
    if not rungs or rungs != sorted(set(rungs)) or rungs[0] < 0:
        raise BortError(f"error={problem.estimator.name} has the rungs {rungs}; ascending step counts of at least 0 are needed.")


def _open_study(
    problem: Problem, config: StrategyConfig, strategy: Strategy, seed: int, storage: StorageConfig, coordination: Coordination
) -> Ledger:
    import optuna

    from bort.search.strategies.base import describe

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = {**problem.identity(), **describe(config, seed)}
    # The identity is compared before Optuna compares directions, whose message would name neither.
    names = optuna.study.get_all_study_names(coordination.storage)
    if storage.study in names:
        study = optuna.load_study(
            study_name=storage.study, storage=coordination.storage, sampler=optuna.samplers.RandomSampler(seed=0)
        )
    else:
        study = optuna.create_study(
            study_name=storage.study,
            storage=coordination.storage,
            directions=strategy.directions,
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
    check_identity(study, identity)
    name_objectives(study, objective_names(problem, len(strategy.directions)))
    ledger = Ledger(study, problem, coordination)
    study.sampler = strategy.sampler(ledger)
    return ledger


class _Worker:
    """One process at a study."""

    def __init__(
        self,
        problem: Problem,
        strategy: Strategy,
        opened: Callable[[], Ledger],
        coordination: Coordination,
        directory: Path,
        engine: Engine,
        observer: Observer,
        on_candidate: Callable[[CandidateRecord], None] | None,
    ) -> None:
        self._problem, self._strategy, self._opened, self._coordination = problem, strategy, opened, coordination
        self._directory, self._engine, self._observer, self._on_candidate = directory, engine, observer, on_candidate
        #: What the engine was given and has not answered yet, by the number of the trial.
        self._in_hand: dict[int, Job] = {}
        self._told: set[int] = set()
        self._warned = False
        #: Whether errors come at once, so that letting go of the study between them would only cost time.
        self._immediate = bool(getattr(problem.estimator, "immediate", False))
        with coordination.exclusive():
            self.ledger = opened()

    def work(self) -> None:
        """Works until the strategy is done."""
        while True:
            jobs = self._inside(self._immediately if self._immediate else self._hand_out)
            self.tell_ended()
            self._progress()
            if jobs is None:
                return
            for job in jobs:
                self._in_hand[job.number] = job
                self._engine.start(job)
            if self._in_hand:
                ended = self._engine.ended(ENGINE_SECONDS)
                if ended:
                    self._inside(partial(self._take_in, ended))
            elif not self._immediate:
                pause(WAIT_SECONDS)

    def finish(self) -> dict[str, Any]:
        """Ends what the strategy left behind, and returns what it has to say."""
        return self._inside(lambda: self._strategy.finish(self.ledger))

    def _inside(self, action: Callable[[], T]) -> T:
        """Acts while holding the study, as it is now; where it is lost, once it can be reached again."""
        until = math.inf
        while True:
            try:
                with self._coordination.exclusive():
                    if until < math.inf:
                        # What was being written may be there or not; only the storage knows.
                        self.ledger = self._opened()
                    self.ledger.refresh()
                    return action()
            except StudyLostError as error:
                if until == math.inf:
                    until = time.monotonic() + LOST_SECONDS
                    self._observer.warn(f"{error} Waiting for it.")
                if time.monotonic() > until:
                    raise
                pause(ATTEMPT_SECONDS)

    def _hand_out(self) -> list[Job] | None:
        """Returns what the engine has room for, which may be nothing; ``None`` where the search is over."""
        self.ledger.in_hand = set(self._in_hand)
        jobs: list[Job] = []
        over = False
        while len(self.ledger.in_hand) < self._engine.slots:
            chosen = self._next_job()
            if not isinstance(chosen, tuple):
                over = chosen is None and not self.ledger.in_hand
                break
            jobs.append(self._job(*chosen))
            self.ledger.in_hand.add(chosen[0].number)
        self.ledger.keep(self.ledger.in_hand)
        return None if over else jobs

    def _take_in(self, ended: Sequence[tuple[Job, Evaluation]]) -> None:
        for job, evaluation in ended:
            # Another worker may have been at it, where this one was cut off from the study.
            entry = self.ledger.running.get(job.number)
            # A rung may be of no steps at all.
            if entry is not None and (not entry.curve or entry.steps < evaluation.steps):
                self.ledger.record(entry, evaluation)
                self.ledger.settle(entry)
            self._in_hand.pop(job.number, None)

    def _next_job(self) -> tuple[Entry, int] | bool | None:
        """Returns what to train next; ``True`` where other workers have to be waited for, ``None`` where the search is over."""
        from bort.search.strategies.base import Begin, Climb, Wait

        ledger = self.ledger
        for entry in list(ledger.running.values()):
            # A worker may have died between writing the last error and ending the candidate.
            ledger.settle(entry)
        while True:
            decision = self._strategy.decide(ledger)
            if isinstance(decision, Climb):
                return decision.entry, decision.steps
            if isinstance(decision, Begin):
                ledger.begin(decision.candidate)
                continue
            return True if isinstance(decision, Wait) else None

    def _immediately(self) -> list[Job] | None:
        """Works for a while without letting go of the study; returns ``None`` where the search is over."""
        until = time.monotonic() + HOLD_SECONDS
        while time.monotonic() < until:
            chosen = self._next_job()
            if not isinstance(chosen, tuple):
                if chosen is None:
                    self.ledger.keep(())
                return None if chosen is None else []
            job = self._job(*chosen)
            self.ledger.record(chosen[0], train(self._problem.estimator, job, self._observer))
            self.ledger.settle(chosen[0])
        return []

    def _job(self, entry: Entry, steps: int) -> Job:
        candidate = entry.candidate
        directory = self._directory / "candidates" / candidate.fingerprint
        return Job(entry.number, candidate.architecture, candidate.theta, steps, directory)

    def tell_ended(self) -> None:
        """Tells the listener of every candidate that has ended and that it was not told of."""
        if self._on_candidate is None:
            return
        for number, entry in self.ledger.entries.items():
            if number not in self._told and entry.state != "running":
                self._told.add(number)
                self._on_candidate(candidate_record(entry, self._problem))

    def _progress(self) -> None:
        spent, total, best = self.ledger.trained_steps, self._strategy.budget, self.ledger.best
        note = f"best {best[1].candidate.architecture}, W {best[0]:.4g}" if best else ""
        self._observer.progress("search", min(spent, total), total, note)
        if best and not self._warned and not has_winner(best[0], best[1].error, self._problem.scale):
            self._warned = True
            self._observer.warn(
                f"W of {best[1].candidate.architecture} is 0: search.error_scale={self._problem.scale.name} requires errors < 1, "
                f"and its error is {best[1].error:.4g}."
            )
