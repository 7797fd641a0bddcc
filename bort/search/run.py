"""The study loop: read, decide, train, write, until the strategy is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.candidate import Theta
from bort.errors import BortError
from bort.events import Observer, Quiet
from bort.search.config import StorageConfig, StrategyConfig
from bort.search.coordination import Coordination, open_coordination, pause
from bort.search.ledger import Entry, Ledger, check_identity, usable
from bort.search.problem import Problem

if TYPE_CHECKING:
    from bort.search.strategies import Strategy

#: Seconds for which a worker whose errors come at once keeps the study to itself, before it writes and lets others in.
HOLD_SECONDS = 1.0
#: Seconds between two looks at a study in which only other workers have something to do.
WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class CandidateRecord:
    """One candidate that has ended.

    Args:
        name: The architecture, as ``D4-A8-H1024-I768``.
        architecture: The shape.
        theta: Its θ.
        number: Its trial's number in the study.
        fingerprint: Digest by which it is known.
        state: ``complete`` (trained to the last rung), ``pruned`` (dropped on the way) or ``failed`` (diverged).
        reason: Why it was dropped or failed.
        parameters: p.
        operations: Multiply-adds at the problem's sequence length.
        latency: i.
        percentiles: Percentiles of a measured latency: ``p50_ms``, ``p90_ms`` and ``p99_ms``.
        error: e at the furthest rung, ``None`` where it failed.
        steps: Training steps of the furthest rung.
        w: W, ``None`` where it was not trained to the last rung.
        curve: Pairs of steps and error, ``None`` for an error that is no number.
        tokens: Tokens trained on.
        processor_seconds: Processor time.
        seconds: Wall time.
        checkpoint: Directory of its weights, where there are any.
        metrics: Further held-out figures at the furthest rung.
    """

    name: str
    architecture: Architecture
    theta: Theta
    number: int
    fingerprint: str
    state: str
    reason: str
    parameters: int
    operations: int
    latency: float
    percentiles: dict[str, float]
    error: float | None
    steps: int
    w: float | None
    curve: list[list[float | None]]
    tokens: int
    processor_seconds: float
    seconds: float
    checkpoint: str | None
    metrics: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the record as plain values, the shape by its four numbers."""
        shape = self.architecture
        numbers = {"depth": shape.depth, "heads": shape.heads, "hidden": shape.hidden, "intermediate": shape.intermediate}
        rest = {key: value for key, value in vars(self).items() if key not in ("name", "architecture")}
        return {"name": self.name, **numbers, **rest, "theta": dict(self.theta)}


def candidate_record(entry: Entry, problem: Problem) -> CandidateRecord:
    """Returns what there is to say of a candidate."""
    candidate, curve = entry.candidate, entry.curve
    sound = usable(entry.error)
    checkpoints = [evaluation.checkpoint for evaluation in curve if evaluation.checkpoint]
    return CandidateRecord(
        name=str(candidate.architecture),
        architecture=candidate.architecture,
        theta=dict(candidate.theta),
        number=entry.number,
        fingerprint=candidate.fingerprint,
        state=entry.state,
        reason=entry.reason,
        parameters=candidate.parameters,
        operations=problem.operations(candidate.architecture),
        latency=candidate.latency,
        percentiles=dict(problem.percentiles.get(candidate.architecture, {})),
        error=entry.error if sound else None,
        steps=entry.steps,
        w=problem.w(candidate, entry.error) if entry.state == "complete" else None,
        curve=[[evaluation.steps, evaluation.error if math.isfinite(evaluation.error) else None] for evaluation in curve],
        tokens=sum(evaluation.tokens for evaluation in curve),
        processor_seconds=sum(evaluation.processor_seconds for evaluation in curve),
        seconds=sum(evaluation.seconds for evaluation in curve),
        checkpoint=checkpoints[-1] if checkpoints else None,
        metrics=dict(curve[-1].metrics) if curve else {},
    )


def run_search(
    problem: Problem,
    strategy: StrategyConfig,
    *,
    seed: int = 0,
    storage: StorageConfig,
    directory: Path,
    observer: Observer | None = None,
    on_candidate: Callable[[CandidateRecord], None] | None = None,
) -> dict[str, Any]:
    """Searches, alone or as one of any number of workers on the same storage, and returns the result once all of them are done.

    A worker may be killed at any moment: what it had recorded stays, and its candidate is taken up again from its last checkpoint
    by another worker or at the next start. A single worker that was killed and started again ends in the result of one that was
    not.

    Args:
        problem: What is searched.
        strategy: How.
        seed: Fixes what the strategy draws.
        storage: Where the study is kept.
        directory: Holds the candidates' training state (``candidates/<fingerprint>``) and, in the end, ``certificate.json``.
        observer: Told of progress.
        on_candidate: Called with every candidate that ends in this process, and at the start with those that had ended before.

    Returns:
        The result: ``winner``, ``candidates``, ``front``, ``hypervolume``, ``trained_steps``, ``exhaustive_steps``,
        ``sensitivity``, ``correlation``, ``maximum_point``, ``history``, ``constraints``, ``certificate``, ``space`` and
        ``strategy``.

    Raises:
        BortError: The problem cannot be searched, the storage cannot be used, the study was made for another problem, or every
            candidate failed.
    """
    from bort.search.result import build_result
    from bort.search.strategies import make_strategy

    problem.check()
    _check_rungs(problem)
    chosen = make_strategy(strategy, problem, seed)
    directory = Path(directory)
    coordination = open_coordination(storage, directory)
    try:
        with coordination.exclusive():
            ledger = _open_study(problem, strategy, chosen, seed, storage, coordination)
        worker = _Worker(problem, chosen, ledger, coordination, directory, observer or Quiet(), on_candidate)
        worker.work()
        with coordination.exclusive():
            ledger.refresh()
            report = chosen.finish(ledger)
        worker.tell_ended()
        return build_result(problem, strategy, seed, ledger, report, directory)
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

    from bort.search.strategies import describe

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
    ledger = Ledger(study, problem, coordination)
    study.sampler = strategy.sampler(ledger)
    return ledger


class _Worker:
    """One process at a study."""

    def __init__(
        self,
        problem: Problem,
        strategy: Strategy,
        ledger: Ledger,
        coordination: Coordination,
        directory: Path,
        observer: Observer,
        on_candidate: Callable[[CandidateRecord], None] | None,
    ) -> None:
        self._problem, self._strategy, self._ledger, self._coordination = problem, strategy, ledger, coordination
        self._directory, self._observer, self._on_candidate = directory, observer, on_candidate
        self._told: set[int] = set()
        #: Whether errors come at once, so that letting go of the study between them would only cost time.
        self._immediate = bool(getattr(problem.estimator, "immediate", False))

    def work(self) -> None:
        """Works until the strategy is done."""
        done = False
        while not done:
            with self._coordination.exclusive():
                self._ledger.refresh()
                job = self._immediately() if self._immediate else self._next_job()
                if not self._immediate or job is None:
                    self._ledger.keep(job[0] if isinstance(job, tuple) else None)
            self.tell_ended()
            self._progress()
            if job is None:
                done = True
            elif isinstance(job, tuple):
                entry, steps = job
                evaluation = self._evaluate(entry, steps)
                with self._coordination.exclusive():
                    self._ledger.refresh()
                    # A rung may be of no steps at all.
                    if entry.number in self._ledger.running and (not entry.curve or entry.steps < steps):
                        self._ledger.record(entry, evaluation)
                        self._ledger.settle(entry)
            elif not self._immediate:
                pause(WAIT_SECONDS)

    def _next_job(self) -> tuple[Entry, int] | bool | None:
        """Returns what to train next; ``True`` where other workers have to be waited for, ``None`` where the search is over."""
        from bort.search.decisions import Begin, Climb, Wait

        ledger = self._ledger
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

    def _immediately(self) -> bool | None:
        """Works for a while without letting go of the study; returns ``None`` where the search is over."""
        until = time.monotonic() + HOLD_SECONDS
        while time.monotonic() < until:
            job = self._next_job()
            if not isinstance(job, tuple):
                return job
            entry, steps = job
            self._ledger.record(entry, self._evaluate(entry, steps))
            self._ledger.settle(entry)
        return True

    def _evaluate(self, entry: Entry, steps: int) -> Any:
        candidate = entry.candidate
        directory = self._directory / "candidates" / candidate.fingerprint
        try:
            return self._problem.estimator.evaluate(candidate.architecture, candidate.theta, steps, directory, self._observer)
        except OSError as error:
            raise BortError(
                f"{candidate.architecture} could not be trained to {steps} steps ({error}). Every error found so far is kept: mend "
                "it, and the same command goes on from there."
            ) from error

    def tell_ended(self) -> None:
        """Tells the listener of every candidate that has ended and that it was not told of."""
        if self._on_candidate is None:
            return
        for number, entry in self._ledger.entries.items():
            if number not in self._told and entry.state != "running":
                self._told.add(number)
                self._on_candidate(candidate_record(entry, self._problem))

    def _progress(self) -> None:
        spent, total, best = self._ledger.trained_steps, self._strategy.budget, self._ledger.best
        note = f"best {best[1].candidate.architecture}, W {best[0]:.4g}" if best else ""
        self._observer.progress("search", min(spent, total), total, note)
