"""The next evaluations: those most likely to reveal the winner for the training steps that they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bort.search.strategies.surrogate import CurveSurrogate, Observations, Posterior
from bort.search.w import RECIPROCAL, ErrorScale, error_for, w

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Share of the budget for the first screening, and the largest number of shapes in it.
SCREEN_SHARE, SCREEN_MOST = 0.2, 48
#: Share of the budget for the first full trainings, which show how curves continue, and their smallest and largest number.
ANCHOR_SHARE, ANCHOR_LEAST, ANCHOR_MOST = 0.2, 1, 5
#: They are chosen from the most promising 1/n of the candidates.
ANCHOR_AMONG = 2
#: Candidates on the shortlist of a plan, and joint draws of their errors.
SHORTLIST, DRAWS = 96, 1024
#: Evaluated errors, and full trainings within the budget, for each job of a plan: the larger count is the limit of its jobs.
EVALUATED_PER_JOB, FULL_PER_JOB = 24, 10
#: Largest number of errors that the process is conditioned on, and fitted to.
CONDITION_MOST, FIT_MOST = 500, 260
#: Factor by which every deviation is widened, for errors of the model itself. On synthetic tables, with probabilities of the
#: normal distribution, 1 made one certificate in 40 wrong, and 1.25 one in 200, at 10 % more cost.
SAFETY = 1.3
#: Degrees of freedom of Student's t, as deviations are estimated; each full training adds one. The normal distribution made
#: certificates wrong that rested on four or five trainings with irregular curves.
FREEDOM = 4
#: Points of the standard normal at which the outcome of a partial training is considered.
OUTCOMES = np.linspace(-3.0, 3.0, 25)


@dataclass
class Knowledge:
    """The evaluations so far.

    Args:
        errors: log e, NaN if not evaluated, [N, R].
        failed: Candidates whose training diverged, [N].
        claimed: Candidates that another worker is training, [N].
        spent: Training steps so far, failed trainings included, and the steps reserved for claimed candidates.
        order: (candidate, rung) in the order of evaluation.
    """

    errors: Array
    failed: npt.NDArray[np.bool_]
    claimed: npt.NDArray[np.bool_]
    spent: float = 0.0
    order: list[tuple[int, int]] = field(default_factory=list)

    @property
    def reached(self) -> Integers:
        """The last evaluated rung of each candidate, -1 if there is none, [N]."""
        return np.sum(np.isfinite(self.errors), axis=1).astype(np.int64) - 1


@dataclass
class Outlook:
    """The prediction for every candidate.

    Args:
        threat: Probability that the candidate is better than the best that was trained to the last rung, [N]; 0 for those.
        mean: Expected log e at the last rung, [N].
        deviation: Its standard deviation, widened by ``widening``, [N].
        hurdle: log e below which the candidate would be the best, [N].
        widening: Factor by which the spread of the process was widened to cover the evaluated errors.
        outside: Share of the evaluated errors outside the 95 % interval that the others predict for them.
    """

    threat: Array
    mean: Array
    deviation: Array
    hurdle: Array
    widening: float
    outside: float


class Planner:
    """A planner of evaluations, deterministic in its settings and the evaluations so far.

    Args:
        savings: The savings of each candidate, >= 0, [N].
        features: Features of each candidate, [N, F].
        rungs: Step counts, ascending.
        budget: Largest number of steps to spend.
        confidence: The search ends when the threats sum to less than 1 - confidence.
        scale: The last factor of W.
    """

    def __init__(
        self,
        savings: Array,
        features: Array,
        rungs: Sequence[int],
        *,
        budget: float,
        confidence: float,
        scale: ErrorScale = RECIPROCAL,
    ) -> None:
        self.savings, self.rungs, self._scale = savings, list(rungs), scale
        # Without savings W is 0 for every error.
        self.eligible = savings > 0
        self.steps: Array = np.asarray(self.rungs, dtype=np.float64)
        self.budget, self.confidence = budget, confidence
        self._features = features
        self._surrogate = CurveSurrogate(features, self.rungs)
        self._fitted_to = 0

    def hurdles(self, known: Knowledge) -> Array:
        """Return the log e below which each candidate would have a larger W than every one that reached the last rung, [N]."""
        done = np.isfinite(known.errors[:, -1])
        if not done.any():
            return np.full(len(self.savings), np.inf)
        best = float(w(self.savings[done], np.exp(known.errors[done, -1]), self._scale).max())
        with np.errstate(divide="ignore"):
            return np.log(error_for(best, self.savings, self._scale))

    def opening(self) -> list[tuple[int, int]]:
        """Return the first jobs: shapes spread over the space, with about equal cost for each doubling of the steps.

        All of them are trained to the first rung, half of them to twice its steps, and so on up to the rung before the last:
        how well an early error predicts a late one has to be measured, since curves may be flat at first, or cross.
        """
        eligible = np.flatnonzero(self.eligible) if self.eligible.any() else np.arange(len(self.savings))
        before_last = self.steps[: max(1, len(self.steps) - 1)]
        for count in range(min(len(eligible), SCREEN_MOST), 0, -1):
            each = count * self.steps[0] / np.arange(1, count + 1)
            rungs = np.searchsorted(before_last, each * (1.0 + 1e-9), side="right") - 1
            if before_last[rungs].sum() <= SCREEN_SHARE * self.budget:
                break
        return [(c, int(rung)) for c, rung in zip(self._spread(eligible, count), rungs, strict=True)]

    def _anchors(self, known: Knowledge, look: Outlook, left: float) -> list[tuple[int, int]]:
        """Return the first jobs to the last rung: the most promising candidate, and others far from each other.

        They show how curves continue, so they are spread; as the winner may be among them, over the more promising half.
        """
        full = left / self.steps[-1]
        count = min(int(np.clip(round(ANCHOR_SHARE * full), ANCHOR_LEAST, ANCHOR_MOST)), int(full))
        free = np.flatnonzero(self.eligible & ~known.failed & ~known.claimed)
        if not count or not len(free):
            return []
        expected = np.exp(look.mean[free])
        promise = w(self.savings[free], expected, self._scale)
        # With the complement, W is 0 wherever an error of 1 or more is expected: then the smallest error is the most promising.
        better = free[np.lexsort((expected, -promise))][: max(count, (len(free) + 1) // ANCHOR_AMONG)]
        return [(c, len(self.rungs) - 1) for c in self._spread(better, min(count, len(better)), first=0)]

    def _spread(self, eligible: Integers, count: int, first: int | None = None) -> list[int]:
        """Return candidates far from each other, starting with ``first`` or the one nearest to the center."""
        x = self._features[eligible]
        deviation = x.std(axis=0)
        x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        chosen = [int(np.argmin((x * x).sum(axis=1))) if first is None else first]
        nearest = np.full(len(x), np.inf)
        while len(chosen) < count:
            nearest = np.minimum(nearest, ((x - x[chosen[-1]]) ** 2).sum(axis=1))
            nearest[chosen] = -1.0
            chosen.append(int(np.argmax(nearest)))
        return [int(eligible[index]) for index in chosen]

    def outlook(self, known: Knowledge) -> tuple[Outlook, Posterior]:
        """Return the prediction for every candidate, and the process behind it."""
        from scipy.special import stdtr, stdtrit

        data = self._data(known, CONDITION_MOST)
        self._fit(known)
        posterior = self._surrogate.condition(data)
        left_out = posterior.left_out()
        widening = self._widening(left_out)
        hurdle = self.hurdles(known)
        freedom = FREEDOM + int(np.isfinite(known.errors[:, -1]).sum())
        negligible = 1e-3 * (1.0 - self.confidence) / len(hurdle)
        wider = SAFETY * widening
        mean, variance = posterior.ends(hurdle, wider * float(stdtrit(freedom, negligible)))
        deviation = wider * np.sqrt(variance)
        threat = stdtr(freedom, (hurdle - mean) / deviation)
        threat[np.isfinite(known.errors[:, -1]) | known.failed | ~self.eligible] = 0.0
        return Outlook(threat, mean, deviation, hurdle, widening, float((np.abs(left_out) > 1.96).mean())), posterior

    def _widening(self, left_out: Array) -> float:
        """Return the root mean square of the errors' leave-one-out residuals in standard deviations, >= 1."""
        squares = np.minimum(left_out, 6.0) ** 2
        # Eight more residuals of 1 are assumed, so that a few cannot decide.
        return float(np.sqrt(max(1.0, (squares.sum() + 8.0) / (len(squares) + 8.0))))

    def _fit(self, known: Knowledge) -> None:
        """Fit the scales at fixed numbers of errors, so that they do not depend on the plans made before."""
        milestone = 1
        while milestone * 1.25 + 1 <= len(known.order):
            milestone = int(milestone * 1.25 + 1)
        if milestone != self._fitted_to:
            self._surrogate.fit(self._data(known, FIT_MOST, milestone))
            self._fitted_to = milestone

    def _data(self, known: Knowledge, most: int, first: int | None = None) -> Observations:
        """Return at most ``most`` errors to condition on: each candidate's last error first, then those of later rungs."""
        evaluated = known.order[:first]
        if len(evaluated) > most:
            last = dict(evaluated)
            rank = [(last[c] == r, r, position) for position, (c, r) in enumerate(evaluated)]
            kept = sorted(range(len(evaluated)), key=lambda position: rank[position], reverse=True)[:most]
            evaluated = [evaluated[position] for position in sorted(kept)]
        candidates = np.array([c for c, _ in evaluated], dtype=np.int64)
        rungs = np.array([r for _, r in evaluated], dtype=np.int64)
        return Observations(candidates, rungs, known.errors[candidates, rungs])

    def plan(self, known: Knowledge) -> tuple[list[tuple[int, int]], Outlook | None]:
        """Return the next jobs as (candidate, rung), best first; none when the search is over.

        An attempt trains a candidate to one of its next rungs, and on to the last rung only if the error there is good enough.
        The best attempt has the largest probability of finding the winner per expected step.
        """
        if not known.order and not known.failed.any():
            return self.opening(), None
        left = self.budget - known.spent
        if not known.order:
            return self._another(known, left), None
        look, posterior = self.outlook(known)
        if not np.isfinite(known.errors[:, -1]).any():
            return self._anchors(known, look, left), look
        if float(look.threat.sum()) < 1.0 - self.confidence:
            return [], look
        reached = known.reached
        paid = np.where(reached >= 0, self.steps[np.maximum(reached, 0)], 0.0)
        affordable = self.steps[-1] - paid <= left
        threat = np.where(affordable & ~known.claimed, look.threat, 0.0)
        shortlist = np.argsort(-threat, kind="stable")[:SHORTLIST]
        shortlist = shortlist[threat[shortlist] > 0]
        if not len(shortlist):
            return [], look
        value, target = self._attempts(shortlist, self._chances(shortlist, look, posterior), reached, paid, posterior)
        many = max(1, len(known.order) // EVALUATED_PER_JOB, int(self.budget / self.steps[-1] / FULL_PER_JOB))
        ranked = np.argsort(-value, kind="stable")[:many]
        chosen: list[tuple[int, int]] = []
        for position in ranked:
            candidate = int(shortlist[position])
            if self.steps[-1] - paid[candidate] <= left:
                chosen.append((candidate, int(target[position])))
                left -= self.steps[-1] - paid[candidate]
        return chosen, look

    def _another(self, known: Knowledge, left: float) -> list[tuple[int, int]]:
        """Return the next job if all candidates so far have failed."""
        untried = np.flatnonzero(self.eligible & ~known.failed & ~known.claimed)
        if not len(untried) or left < self.steps[-1]:
            return []
        return [(self._spread(untried, 1)[0], len(self.rungs) - 1)]

    def _chances(self, shortlist: Integers, look: Outlook, posterior: Posterior) -> Array:
        """Return the probability that each candidate is the winner: the share of joint draws in which its W is the largest, [M].

        Predictions are correlated over all curves, and more so over those of similar shapes: a hundred candidates may have large
        threats while only three of them can be the winner.
        """
        covariance = posterior.together(shortlist)
        factor = (look.deviation[shortlist] / np.sqrt(np.diag(covariance)))[:, None] * np.linalg.cholesky(covariance)
        draws = look.mean[shortlist] + np.random.default_rng(0).normal(size=(DRAWS, len(shortlist))) @ factor.T
        values = w(self.savings[shortlist], np.exp(draws), self._scale)
        better = draws < look.hurdle[shortlist]
        best = np.argmax(np.where(better, values, -np.inf), axis=1)
        wins = np.bincount(best[better.any(axis=1)], minlength=len(shortlist))
        # One more draw is divided in proportion to the threats, so that no candidate with a threat has probability 0.
        return np.asarray((wins + look.threat[shortlist]) / (DRAWS + 1.0))

    def _attempts(
        self, shortlist: Integers, chances: Array, reached: Integers, paid: Array, posterior: Posterior
    ) -> tuple[Array, Integers]:
        """Return the probability of finding the winner per step of each candidate's best attempt, and that attempt's first rung."""
        from scipy.special import ndtr, ndtri

        last = len(self.rungs) - 1
        _, variances, covariances = posterior.curves(shortlist, np.arange(last + 1))
        correlation = covariances / np.sqrt(variances * variances[:, -1:])
        # Outcomes are in the direction of W: larger is better.
        correlation = np.clip(correlation, 0.0, 0.9999)
        weight = np.exp(-0.5 * OUTCOMES**2)
        weight /= weight.sum()
        # The quantile that an outcome exceeds with this probability.
        hurdle = -ndtri(chances)
        value = chances / (self.steps[-1] - paid[shortlist])
        target = np.full(len(shortlist), last)
        for rung in range(last):
            open_to = reached[shortlist] < rung
            rho = correlation[:, rung]
            caught = ndtr((rho[:, None] * OUTCOMES - hurdle[:, None]) / np.sqrt(1.0 - rho[:, None] ** 2)) * weight
            # Cumulative from the best outcome down: for each threshold, the winners found and the probability of continuing.
            mass = np.cumsum(caught[:, ::-1], axis=1)
            passing = np.cumsum(weight[::-1])
            cost = (self.steps[rung] - paid[shortlist])[:, None] + passing * (self.steps[-1] - self.steps[rung])
            best = np.max(mass / np.maximum(cost, 1e-9), axis=1)
            better = open_to & (best > value)
            value, target = np.where(better, best, value), np.where(better, rung, target)
        return value, target
