"""What a study knows: which candidates were begun, their curves, and how each ended. It is kept in an Optuna study."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.candidate import Evaluation, fingerprint
from bort.errors import BortError
from bort.record import differences
from bort.search.problem import Candidate, Problem
from bort.search.storage.base import CANDIDATE, IDENTITY, RUNG, Coordination
from bort.search.w import precedence, usable

if TYPE_CHECKING:
    import optuna

REASON = "bort:reason"
REPEATS = "bort:repeats"

RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"


@dataclass
class Entry:
    """One candidate that was begun.

    Args:
        number: Its trial's number in the study.
        candidate: What it is.
        curve: Its errors, one for each rung that it has climbed.
        orders: The place of each of these errors among all of the study's, in the order they were recorded.
        state: ``running`` (begun, also where nobody is at it), ``complete``, ``pruned`` or ``failed``.
        reason: Why it failed or was dropped.
    """

    number: int
    candidate: Candidate
    curve: list[Evaluation] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    state: str = RUNNING
    reason: str = ""

    @property
    def steps(self) -> int:
        """Training steps so far."""
        return self.curve[-1].steps if self.curve else 0

    @property
    def error(self) -> float:
        """The latest error; NaN where there is none."""
        return self.curve[-1].error if self.curve else math.nan


class Ledger:
    """The state of a study, in memory and in its storage.

    Every method is to be called inside ``coordination.exclusive()``.

    Args:
        study: The Optuna study.
        problem: What is searched.
        coordination: The study's storage and locks.
    """

    def __init__(self, study: optuna.Study, problem: Problem, coordination: Coordination) -> None:
        self.study, self.problem, self._coordination = study, problem, coordination
        self._storage: optuna.storages.BaseStorage = coordination.storage
        self._study_id: int = self._storage.get_study_id_from_name(study.study_name)
        self.distributions = distributions(problem)
        # For the learning curves of the dashboard: Optuna keeps none for several objectives, and where errors cost nothing to get,
        # writing them twice would be most of the work.
        self._immediate = bool(getattr(problem.estimator, "immediate", False))
        self._shows_curves = len(study.directions) == 1 and not self._immediate
        self.entries: dict[int, Entry] = {}
        self.by_index: dict[int, Entry] = {}
        self.running: dict[int, Entry] = {}
        #: Trials that a worker had not finished creating when it died.
        self.torn: list[int] = []
        #: Errors bought so far, and the training steps that they took.
        self.evaluations = 0
        self.trained_steps = 0
        #: The best W among the candidates that were trained to the last rung, and the candidate.
        self.best: tuple[float, Entry] | None = None
        self._trial_ids: dict[int, int] = {}
        self._settled: set[int] = set()
        self._claimed: set[int] = set()
        #: Trials that this worker has submitted to its engine.
        self.submitted: set[int] = set()
        self._last_begun = -1
        self._trials = 0
        self.rungs = list(problem.estimator.rungs)

    def refresh(self) -> None:
        """Reads what other workers, or an earlier start of this one, have written."""
        self.torn.clear()
        for trial in self.study.get_trials(deepcopy=False):
            if trial.number not in self._settled:
                self._read(trial)

    def _read(self, trial: optuna.trial.FrozenTrial) -> None:
        self._remember(trial.number, trial._trial_id)
        attributes = trial.user_attrs
        if REPEATS in attributes or CANDIDATE not in attributes:
            if trial.state.is_finished():
                self._settled.add(trial.number)
            else:
                self.torn.append(trial.number)
            return
        entry = self.entries.get(trial.number) or self._enter(trial.number, attributes[CANDIDATE])
        for steps in self.rungs[len(entry.curve) :]:
            record = attributes.get(f"{RUNG}{steps}")
            if record is None:
                break
            self._append(entry, _evaluation(record), int(record["order"]))
        if trial.state.is_finished():
            entry.reason = attributes.get(REASON, "")
            self._close(entry, {"COMPLETE": COMPLETE, "PRUNED": PRUNED}.get(trial.state.name, FAILED))

    def _enter(self, number: int, known_by: str) -> Entry:
        entry = Entry(number, self.problem.by_fingerprint[known_by])
        self._last_begun = max(self._last_begun, number)
        self.entries[number] = self.running[number] = self.by_index[entry.candidate.index] = entry
        return entry

    def _append(self, entry: Entry, evaluation: Evaluation, order: int) -> None:
        self.trained_steps += evaluation.steps - entry.steps
        entry.curve.append(evaluation)
        entry.orders.append(order)
        self.evaluations = max(self.evaluations, order + 1)

    def _close(self, entry: Entry, state: str) -> None:
        entry.state = state
        if state == COMPLETE:
            w = self.problem.w(entry.candidate, entry.error)
            if self.best is None or precedence(w, entry.candidate.index) < precedence(self.best[0], self.best[1].candidate.index):
                self.best = w, entry
        self.running.pop(entry.number, None)
        self._settled.add(entry.number)

    def busy(self, entry: Entry) -> bool:
        """Tells whether a candidate is being trained; where not, it is claimed until :meth:`keep`."""
        if self._immediate:
            # Nobody lets go of the study between beginning a rung and finishing it.
            return False
        if entry.number in self.submitted or not self._coordination.claim(entry.number):
            return True
        self._claimed.add(entry.number)
        return False

    def keep(self, numbers: Collection[int]) -> None:
        """Gives back every candidate that was claimed but those of ``numbers``, and claims these."""
        for number in self._claimed.difference(numbers):
            self._coordination.release(number)
        self._claimed = {number for number in numbers if self._coordination.claim(number)}

    def untried(self, pool: Sequence[Candidate]) -> Iterable[Candidate]:
        """Yields the candidates of ``pool`` that were not begun yet, in its order."""
        return (candidate for candidate in pool if candidate.index not in self.by_index)

    def repeats_before(self, number: int) -> int:
        """Returns how many trials in a row before ``number`` were repetitions."""
        return number - 1 - self._last_begun

    def start(self, candidate: Candidate | None = None) -> Entry | None:
        """Makes a trial of a candidate, or of what the study's sampler proposes.

        Returns:
            The new candidate, or ``None`` where the proposal was a repetition, which is answered from memory.
        """
        import optuna

        if candidate is not None and not self.torn:
            # In one piece: nothing of it is there if the process dies meanwhile.
            return self._start_atomically(candidate)
        if self.torn:
            number = self.torn.pop(0)
        else:
            number = self._trials
            self._remember(number, self._storage.create_new_trial(self._study_id))
        trial = optuna.trial.Trial(self.study, self._trial_ids[number])
        candidate = self._suggest(trial)
        known = self.by_index.get(candidate.index)
        for name, excess in self.problem.excesses(candidate).items():
            _set_constraint(trial, name, excess)
        if known is not None:
            trial.set_user_attr(REPEATS, known.number)
            values = self._values(known)
            self._end(number, optuna.trial.TrialState.COMPLETE if values else optuna.trial.TrialState.FAIL, values)
            self._settled.add(number)
            return None
        trial.set_user_attr(CANDIDATE, candidate.fingerprint)
        return self._enter(number, candidate.fingerprint)

    def _start_atomically(self, candidate: Candidate) -> Entry:
        import optuna

        template = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=parameters_of(candidate, self.problem),
            distributions=self.distributions,
            user_attrs={CANDIDATE: candidate.fingerprint},
        )
        number = self._trials
        self._remember(number, self._storage.create_new_trial(self._study_id, template))
        return self._enter(number, candidate.fingerprint)

    def _remember(self, number: int, identifier: int) -> None:
        self._trial_ids[number] = identifier
        self._trials = max(self._trials, number + 1)

    def _suggest(self, trial: optuna.Trial) -> Candidate:
        chosen = {name: trial.suggest_categorical(name, space.choices) for name, space in self.distributions.items()}
        return candidate_of(chosen, self.problem)

    def record(self, entry: Entry, evaluation: Evaluation) -> None:
        """Writes an error that was bought."""
        order = self.evaluations
        identifier = self._trial_ids[entry.number]
        self._storage.set_trial_user_attr(identifier, f"{RUNG}{evaluation.steps}", _record(evaluation, order))
        if self._shows_curves and usable(evaluation.error):
            self._storage.set_trial_intermediate_value(identifier, evaluation.steps, evaluation.error)
        self._append(entry, evaluation, order)

    def settle(self, entry: Entry) -> bool:
        """Ends a candidate whose training diverged or has reached the last rung; tells whether it did."""
        from optuna.trial import TrialState

        if entry.curve and not usable(entry.error):
            self._finish(entry, TrialState.FAIL, FAILED, f"the error at {entry.steps} steps is {entry.error}")
            return True
        if entry.curve and entry.steps == self.rungs[-1]:
            self._end(entry.number, TrialState.COMPLETE, self._values(entry))
            self._close(entry, COMPLETE)
            return True
        return False

    def drop(self, entry: Entry, reason: str) -> None:
        """Ends a candidate that was not trained to the last rung."""
        from optuna.trial import TrialState

        self._finish(entry, TrialState.PRUNED, PRUNED, reason)

    def _finish(self, entry: Entry, trial_state: Any, state: str, reason: str) -> None:
        self._storage.set_trial_user_attr(self._trial_ids[entry.number], REASON, reason)
        self._end(entry.number, trial_state, None)
        entry.reason = reason
        self._close(entry, state)

    def _end(self, number: int, state: Any, values: list[float] | None) -> None:
        # As study.tell does, but without its copies of the trial, and without taking a dropped candidate's error for a W.
        identifier = self._trial_ids[number]
        self.study.sampler.after_trial(self.study, self._storage.get_trial(identifier), state, values)
        self._storage.set_trial_state_values(identifier, state, values)

    def _values(self, entry: Entry) -> list[float] | None:
        if not usable(entry.error) or entry.steps != self.rungs[-1]:
            return None
        candidate = entry.candidate
        if len(self.study.directions) == 1:
            return [self.problem.w(candidate, entry.error)]
        return [float(candidate.parameters), float(candidate.latency), entry.error]


def objective_names(problem: Problem, objectives: int) -> list[str]:
    """Returns what a study's values are: W, or p, i and e."""
    return ["W"] if objectives == 1 else ["parameters", "latency in ms" if problem.measured else "operations", "error"]


def distributions(problem: Problem) -> dict[str, optuna.distributions.BaseDistribution]:
    """Returns the parameters of a study: the four of the architecture, and θ's place in Θ where there are several."""
    from optuna.distributions import CategoricalDistribution

    found = {name: CategoricalDistribution(values) for name, values in problem.space.values.items()}
    if len(problem.search.thetas) > 1:
        found["theta"] = CategoricalDistribution(list(range(len(problem.search.thetas))))
    return found


def parameters_of(candidate: Candidate, problem: Problem) -> dict[str, int]:
    """Returns a candidate as the parameters of a trial."""
    shape = candidate.architecture
    values = {"depth": shape.depth, "heads": shape.heads, "hidden": shape.hidden, "intermediate": shape.intermediate}
    thetas = problem.search.thetas
    return values if len(thetas) == 1 else {**values, "theta": thetas.index(dict(candidate.theta))}


def candidate_of(chosen: Mapping[str, Any], problem: Problem) -> Candidate:
    """Returns the candidate that the parameters of a trial stand for."""
    shape = {name: value for name, value in chosen.items() if name != "theta"}
    theta = problem.search.thetas[chosen.get("theta", 0)]
    return problem.by_fingerprint[fingerprint(Architecture(**shape), theta)]


def _set_constraint(trial: optuna.Trial, name: str, excess: float) -> None:
    import warnings

    with warnings.catch_warnings():
        # It was said before where the trial was torn.
        warnings.simplefilter("ignore")
        trial.set_constraint(name, excess)


def check_identity(study: optuna.Study, identity: Mapping[str, Any]) -> None:
    """Writes what a new study is made for, or refuses to go on with one that was made for something else.

    Raises:
        BortError: Names what differs.
    """
    from bort.files import finite

    wanted = finite(dict(identity))
    known = study.user_attrs.get(IDENTITY)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise BortError(f"The study '{study.study_name}' was not made by a Bort search; choose another storage.study.")
        study.set_user_attr(IDENTITY, wanted)
        return
    if named := differences(known, wanted, most=4):
        raise BortError(
            f"The study '{study.study_name}' was begun with other settings ({named}); resume with those, or choose another "
            "storage.study or another folder."
        )


def _record(evaluation: Evaluation, order: int) -> dict[str, Any]:
    record: dict[str, Any] = {"order": order, "steps": evaluation.steps, "error": evaluation.error}
    for name in ("tokens", "processor_seconds", "seconds", "checkpoint"):
        if value := getattr(evaluation, name):
            record[name] = value
    if evaluation.metrics:
        record["metrics"] = {key: float(value) for key, value in evaluation.metrics.items()}
    return record


def _evaluation(record: Mapping[str, Any]) -> Evaluation:
    return Evaluation(**{key: value for key, value in record.items() if key != "order"})
