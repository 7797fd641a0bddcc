"""The study loop: read, decide, train, write, until the strategy stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bort.candidate import Evaluation
from bort.errors import BortError
from bort.observer import Observer, Quiet
from bort.optuna_storage import name_objectives
from bort.quiet import quiet
from bort.search.candidates import CandidateRecord, candidate_record
from bort.search.engine import Engine, Job, LocalEngine, train
from bort.search.problem import Problem
from bort.search.storage.base import Coordination, pause
from bort.search.storage.errors import StudyLostError
from bort.search.strategies.base import Promote, Start, Stop, Wait
from bort.search.study import Entry, Ledger, check_identity, objective_names
from bort.search.w import has_winner
from bort.settings import check_settings

if TYPE_CHECKING:
    from bort.search.storage.config import StorageConfig
    from bort.search.strategies.base import Strategy
    from bort.search.strategies.config import StrategyConfig


T = TypeVar("T")

#: Seconds for which a worker with an immediate estimator keeps the study to itself, before it writes and lets others in.
HOLD_SECONDS = 1.0

#: Seconds between two looks at a study in which only other workers have something to do.
WAIT_SECONDS = 0.2

#: Seconds between two looks at a study while an engine trains: other workers may leave candidates behind.
ENGINE_SECONDS = 1.0

#: Seconds for which a worker waits for a lost database, and between two attempts.
LOST_SECONDS, ATTEMPT_SECONDS = 600.0, 1.0


@quiet("optuna")
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
    """Search, alone or as one of any number of workers on the same storage, and return the result once all of them are done.

    A worker may be killed at any moment: what it had recorded stays, and its candidate is resumed from its last checkpoint by
    another worker or at the next start. A single worker that was killed and restarted ends in the result of one that was not. A
    database may go away and come back meanwhile: training continues, and its evaluations are written then.

    Args:
        problem: The search problem.
        strategy: Settings of the strategy.
        seed: Fixes what the strategy draws.
        storage: Settings of the study's storage.
        directory: Holds the candidates' training state (``candidates/<fingerprint>``) and, in the end, ``certificate.json``.
        engine: Trains the candidates; by default this process, one at a time. The caller closes it.
        observer: Receives progress.
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

    problem.check()
    _check_rungs(problem)
    check_settings(strategy, "strategy")
    built, directory, observer = strategy.build(problem, seed), Path(directory), observer or Quiet()
    identity = {**problem.identity(), **strategy.identity(seed)}
    coordination = storage.open(directory)
    try:
        study = _Study(storage.study, problem, built, identity, coordination, observer)
        worker = _Worker(study, engine or LocalEngine(problem.estimator, observer), directory, observer, on_candidate)
        worker.work()
        report = study.exclusively(built.finish)
        worker.report_ended()
        return build_result(problem, strategy, seed, study.ledger, report, directory)
    finally:
        coordination.close()


def _check_rungs(problem: Problem) -> None:
    rungs = list(problem.estimator.rungs)
    if not rungs or rungs != sorted(set(rungs)) or rungs[0] < 0:
        raise BortError(f"error={problem.estimator.name} has the rungs {rungs}; ascending step counts of at least 0 are needed.")


class _Study:
    """A study in its storage, opened anew after the storage was lost.

    Args:
        name: Its name within the storage.
        problem: The search problem.
        strategy: The strategy, which proposes the candidates.
        identity: Everything that fixes the answers; a study of another identity is refused.
        coordination: The storage and its locks.
        observer: Receives warnings.
    """

    def __init__(
        self,
        name: str,
        problem: Problem,
        strategy: Strategy,
        identity: Mapping[str, Any],
        coordination: Coordination,
        observer: Observer,
    ) -> None:
        self.name, self.problem, self.strategy = name, problem, strategy
        self._identity, self._coordination, self._observer = identity, coordination, observer
        with coordination.exclusive():
            self.ledger = self._open()

    def exclusively(self, action: Callable[[Ledger], T]) -> T:
        """Act on the ledger, refreshed, while no other worker reads or writes the study; wait for a lost database."""
        until = math.inf
        while True:
            try:
                with self._coordination.exclusive():
                    if until < math.inf:
                        # What was being written may be there or not; only the storage can say.
                        self.ledger = self._open()
                    self.ledger.refresh()
                    return action(self.ledger)
            except StudyLostError as error:
                if until == math.inf:
                    until = time.monotonic() + LOST_SECONDS
                    self._observer.warn(f"{error} Waiting for it.")
                if time.monotonic() > until:
                    raise
                pause(ATTEMPT_SECONDS)

    def _open(self) -> Ledger:
        import optuna

        storage, sampler = self._coordination.storage, optuna.samplers.RandomSampler(seed=0)
        # The identity is compared before Optuna compares directions, whose message would name neither.
        if self.name in optuna.study.get_all_study_names(storage):
            study = optuna.load_study(study_name=self.name, storage=storage, sampler=sampler)
        else:
            directions = self.strategy.directions
            study = optuna.create_study(study_name=self.name, storage=storage, directions=directions, sampler=sampler)
        check_identity(study, self._identity)
        name_objectives(study, objective_names(self.problem, len(self.strategy.directions)))
        ledger = Ledger(study, self.problem, self._coordination)
        study.sampler = self.strategy.sampler(ledger)
        return ledger


class _Worker:
    """One process that works on a study."""

    def __init__(
        self,
        study: _Study,
        engine: Engine,
        directory: Path,
        observer: Observer,
        on_candidate: Callable[[CandidateRecord], None] | None,
    ) -> None:
        self._study, self._problem, self._strategy = study, study.problem, study.strategy
        self._engine, self._directory, self._observer, self._on_candidate = engine, directory, observer, on_candidate
        #: Jobs that the engine has not finished yet, by the number of the trial.
        self._submitted: dict[int, Job] = {}
        self._reported: set[int] = set()
        self._warned = False
        #: Whether errors come at once, so that releasing the study between them would only cost time.
        self._immediate = bool(getattr(self._problem.estimator, "immediate", False))

    def work(self) -> None:
        """Work until the strategy stops."""
        while True:
            jobs = self._study.exclusively(self._evaluate_at_once if self._immediate else self._next_jobs)
            self.report_ended()
            self._report_progress()
            if jobs is None:
                return
            for job in jobs:
                self._submitted[job.number] = job
                self._engine.submit(job)
            if self._submitted:
                finished = self._engine.collect(ENGINE_SECONDS)
                if finished:
                    self._study.exclusively(partial(self._record, finished))
            elif not self._immediate:
                pause(WAIT_SECONDS)

    def _next_jobs(self, ledger: Ledger) -> list[Job] | None:
        """Return jobs for the engine's free slots, possibly none; ``None`` once the search is over."""
        ledger.submitted = set(self._submitted)
        _settle(ledger)
        jobs: list[Job] = []
        over = False
        while len(ledger.submitted) < self._engine.slots:
            match self._strategy.decide(ledger):
                case Start(candidate):
                    ledger.start(candidate)
                case Promote(entry, steps):
                    jobs.append(self._job(entry, steps))
                    ledger.submitted.add(entry.number)
                case Wait():
                    break
                case Stop():
                    over = not ledger.submitted
                    break
        ledger.keep(ledger.submitted)
        return None if over else jobs

    def _record(self, finished: Sequence[tuple[Job, Evaluation]], ledger: Ledger) -> None:
        for job, evaluation in finished:
            # Another worker may have trained it meanwhile, if this one was cut off from the study.
            entry = ledger.running.get(job.number)
            # A rung may be of no steps at all.
            if entry is not None and (not entry.curve or entry.steps < evaluation.steps):
                ledger.record(entry, evaluation)
                ledger.settle(entry)
            self._submitted.pop(job.number, None)

    def _evaluate_at_once(self, ledger: Ledger) -> list[Job] | None:
        """Evaluate for a while without releasing the study; return ``None`` once the search is over."""
        _settle(ledger)
        until = time.monotonic() + HOLD_SECONDS
        while True:
            match self._strategy.decide(ledger):
                case Start(candidate):
                    ledger.start(candidate)
                case Promote(entry, steps):
                    ledger.record(entry, train(self._problem.estimator, self._job(entry, steps), self._observer))
                    ledger.settle(entry)
                    # Only here: a started candidate is not left behind, since no claim protects it.
                    if time.monotonic() > until:
                        return []
                case Wait():
                    return []
                case Stop():
                    ledger.keep(())
                    return None

    def _job(self, entry: Entry, steps: int) -> Job:
        candidate = entry.candidate
        directory = self._directory / "candidates" / candidate.fingerprint
        return Job(entry.number, candidate.architecture, candidate.theta, steps, directory)

    def report_ended(self) -> None:
        """Report every ended candidate that was not reported before."""
        if self._on_candidate is None:
            return
        for number, entry in self._study.ledger.entries.items():
            if number not in self._reported and entry.state != "running":
                self._reported.add(number)
                self._on_candidate(candidate_record(entry, self._problem))

    def _report_progress(self) -> None:
        ledger = self._study.ledger
        spent, total, best = ledger.trained_steps, self._strategy.budget, ledger.best
        note = f"best {best[1].candidate.architecture}, W {best[0]:.4g}" if best else ""
        self._observer.progress("search", min(spent, total), total, note)
        if best and not self._warned and not has_winner(best[0], best[1].error, self._problem.scale):
            self._warned = True
            self._observer.warn(
                f"W of {best[1].candidate.architecture} is 0: search.error_scale={self._problem.scale.name} requires errors < 1, "
                f"and its error is {best[1].error:.4g}."
            )


def _settle(ledger: Ledger) -> None:
    """End what is finished: a worker may have died between writing the last error and ending the candidate."""
    for entry in list(ledger.running.values()):
        ledger.settle(entry)
