"""``bound``: p and i are known exactly, so only errors are bought, and only those that can still decide the winner.

First a ladder of looks: shapes spread over the space at the first rung, half of them at twice its steps, and so forth; then some
full trainings. From then on each purchase is the one with the largest chance to come upon the winner for its steps.

The optimistic error of a candidate is a low quantile of what :mod:`bort.search.strategies.surrogate` expects of it at the
last rung; the pessimistic one of the incumbent is its measured error, since only a candidate that was trained to the last rung
can win. A candidate is out of the race when its optimistic W is below the incumbent's W. The race is over when the chances that
any candidate left behind is better sum up to less than ``1 − confidence`` (a union bound, so no independence is assumed), or with
the budget: nothing of it is kept back while the winner is in doubt. Chances are those of Student's t, with as many degrees of
freedom as full trainings and a few more, so that a few trainings cannot make the bound sure of itself.

What the bound rests on is in ``ASSUMPTIONS``, and how it stood the errors that were bought in the certificate's ``checks``. It is
wrong more often than it says where a few candidates leave the crowd by far more than the spread among those that were trained.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bort.search.problem import Candidate, Problem
from bort.search.strategies.base import Decision, Promote, Start, Stop, Wait
from bort.search.strategies.planner import SAFETY, Knowledge, Outlook, Planner
from bort.search.strategies.samplers import chosen_sampler
from bort.search.study import Ledger
from bort.search.w import usable

if TYPE_CHECKING:
    import optuna

PLAN = "bort:plan"
#: Shares of errors outside their interval, and of climbs that made the error larger, above which an assumption is violated.
OUTSIDE_ALLOWED, RISING_ALLOWED = 0.1, 0.1

ASSUMPTIONS = (
    "p and i are exact.",
    "log e is a smooth function of the shape and of log steps, plus deviations of each candidate that are normal and of one scale.",
    "A curve goes on beyond its last rung as those of the candidates that went further did, within the spread among them.",
)


class BoundStrategy:
    """Evaluates by plan: each plan is made from the errors so far when the previous one is used up, and stored with the study.

    The arguments are described in :class:`bort.search.strategies.config.BoundConfig`.
    """

    directions: ClassVar[list[str]] = ["maximize"]

    def __init__(self, problem: Problem, *, budget: float, confidence: float, minimum_full: int) -> None:
        self._confidence, self._problem = confidence, problem
        self._pool = problem.feasible
        self._row = {candidate.index: row for row, candidate in enumerate(self._pool)}
        self._rungs = list(problem.estimator.rungs)
        last = self._rungs[-1]
        full = min(len(self._pool), minimum_full)
        self.budget: float = max(budget * len(self._pool) * last, full * last)
        self._planner = Planner(
            np.array([candidate.savings for candidate in self._pool]),
            _features(self._pool, problem),
            # Where errors cost no steps, each counts as one.
            self._rungs if last else [1],
            budget=self.budget,
            confidence=confidence,
            scale=problem.scale,
        )
        self._chosen: Candidate | None = None

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Returns a sampler that proposes what was planned."""
        return chosen_sampler(ledger.problem, lambda: self._chosen)

    def decide(self, ledger: Ledger) -> Decision:
        """Return the first job of the plan that no worker trains; make a new plan if all are done or claimed."""
        for made in range(2):
            plan = ledger.study.user_attrs.get(PLAN)
            if plan is None or (made and self._outdated(plan, ledger)):
                plan = self._make_plan(ledger)
            for row, rung in plan["jobs"]:
                candidate = self._pool[row]
                entry = ledger.by_index.get(candidate.index)
                if entry is None:
                    self._chosen = candidate
                    return Start(candidate)
                if entry.number in ledger.running and len(entry.curve) <= rung and not ledger.busy(entry):
                    return Promote(entry, self._rungs[len(entry.curve)])
        # The errors that others are at may change the plan.
        return Wait() if any(ledger.busy(entry) for entry in ledger.running.values()) else Stop()

    def _outdated(self, plan: dict[str, Any], ledger: Ledger) -> bool:
        """Tells whether more is known than when a plan was made, or less is set aside for workers that are gone since."""
        taken = sum(1 for entry in ledger.running.values() if ledger.busy(entry))
        return bool(plan["at"] != ledger.evaluations or taken < plan["taken"])

    def _make_plan(self, ledger: Ledger) -> dict[str, Any]:
        """Makes the next plan and keeps it with the study, where every worker and every later start finds it."""
        known = self._knowledge(ledger)
        for entry in ledger.running.values():
            if ledger.busy(entry):
                # It may go on to the last rung, and the budget is everybody's.
                known.claimed[self._row[entry.candidate.index]] = True
                known.spent += self._rungs[-1] - entry.steps
        with _one_thread():
            jobs, _ = self._planner.plan(known)
        plan = {"at": ledger.evaluations, "taken": int(known.claimed.sum()), "jobs": [list(job) for job in jobs]}
        ledger.study.set_user_attr(PLAN, plan)
        return plan

    def _knowledge(self, ledger: Ledger) -> Knowledge:
        nobody = np.zeros(len(self._pool), dtype=np.bool_)
        known = Knowledge(np.full((len(self._pool), len(self._rungs)), np.nan), nobody.copy(), nobody.copy())
        bought: list[tuple[int, int, int]] = []
        for entry in ledger.entries.values():
            row = self._row[entry.candidate.index]
            known.spent += entry.steps
            known.failed[row] = bool(entry.curve) and not usable(entry.error)
            for rung, (evaluation, order) in enumerate(zip(entry.curve, entry.orders, strict=True)):
                if usable(evaluation.error):
                    known.errors[row, rung] = np.log(evaluation.error)
                    bought.append((order, row, rung))
        known.order = [(row, rung) for _, row, rung in sorted(bought)]
        return known

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """Drops the candidates that were left behind, and says what the certificate rests on."""
        known = self._knowledge(ledger)
        if not known.order:
            return {"sense": "none: every training failed", "certified": False}
        with _one_thread():
            look, _ = self._planner.outlook(known)
        threat = float(look.threat.sum())
        certified = threat < 1.0 - self._confidence
        for entry in list(ledger.running.values()):
            row = self._row[entry.candidate.index]
            ledger.drop(entry, f"its chance of being the winner was {look.threat[row]:.2g} after {entry.steps} steps")
        started = known.reached >= 0
        behind = ~np.isfinite(known.errors[:, -1]) & ~known.failed
        out = behind & (look.threat < (1.0 - self._confidence) / len(self._pool))
        sense = (
            f"exact over the space with a confidence of {self._confidence:g}, under the assumptions"
            if certified
            else f"the best that the budget allowed: the chance that another is better is up to {min(1.0, threat):.2g}"
        )
        return {
            "sense": sense,
            "certified": certified,
            "chance_of_another": min(1.0, threat),
            "confidence": self._confidence,
            "budget_steps": self.budget,
            "screened": int((behind & ~started).sum()),
            "dropped_by_bound": int((behind & started).sum()),
            "out_of_the_race": int(out.sum()),
            "assumptions": list(ASSUMPTIONS),
            "safety": SAFETY,
            "checks": _checks(known, look),
        }


def _one_thread() -> AbstractContextManager[object]:
    """Keeps linear algebra to one thread: its matrices gain little from more, and lose much where other workers want the cores."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


def _checks(known: Knowledge, look: Outlook) -> dict[str, Any]:
    """Returns how the assumptions stood the errors that were bought, and a sentence for each that did not hold."""
    rises = np.diff(known.errors, axis=1)
    pairs = rises[np.isfinite(rises)]
    rising = float((pairs > 0).mean()) if len(pairs) else 0.0
    done = known.errors[np.isfinite(known.errors[:, -1])]
    later, earlier = done[:, -1], done[:, 0]
    above = np.triu(np.subtract.outer(later, later) * np.subtract.outer(earlier, earlier) < 0, 1).sum()
    count = len(done) * (len(done) - 1) // 2
    crossing = float(above / count) if count else 0.0
    violations = []
    if look.outside > OUTSIDE_ALLOWED:
        violations.append(
            f"{look.outside:.0%} of the errors lay outside their 95 % interval; every bound was widened by {look.widening:.2f}"
        )
    if rising > RISING_ALLOWED:
        violations.append(f"{rising:.0%} of the climbs to a next rung made the error larger, so the curves are noisy")
    return {
        "outside_95": look.outside, "widening": look.widening, "rising": rising, "crossing": crossing, "violations": violations,
    }  # fmt: skip


def _features(pool: list[Candidate], problem: Problem) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns the features of candidates: logarithms of the four numbers and of the encoder's parameters, and θ by its place."""
    rows = []
    for candidate in pool:
        shape = candidate.architecture
        numbers = [shape.depth, shape.heads, shape.hidden, shape.intermediate, shape.encoder_parameters()]
        thetas = [float(dict(candidate.theta) == theta) for theta in problem.search.thetas[1:]]
        rows.append([*np.log(np.array(numbers, dtype=np.float64)), *thetas])
    return np.array(rows, dtype=np.float64)
