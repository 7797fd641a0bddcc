"""Which error to buy next: the one that settles most of the doubt about the winner for its price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bort.search.strategies.surrogate import CurveSurrogate, Observations, Posterior
from bort.search.w import RECIPROCAL, ErrorScale, error_for, w

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Share of the budget for the first look at many shapes, and the most shapes that get it.
SCREEN_SHARE, SCREEN_MOST = 0.2, 48
#: Share of the budget for the first full trainings, which show how curves go on; and their least and most number.
ANCHOR_SHARE, ANCHOR_LEAST, ANCHOR_MOST = 0.2, 1, 5
#: They are chosen from the most promising one in so many.
ANCHOR_AMONG = 2
#: Candidates looked at closely in one plan, and joint draws of their errors.
SHORTLIST, DRAWS = 96, 1024
#: A plan holds at most so many purchases: one for each so many errors that were bought, or full trainings that the budget pays for.
BOUGHT_PER_PURCHASE, FULL_PER_PURCHASE = 24, 10
#: Errors that the process is conditioned on at most, and fitted to at most.
CONDITION_MOST, FIT_MOST = 500, 260
#: Factor by which every deviation is widened, for what the model cannot know of itself. On tables made from formulas, with
#: chances of the normal, 1 made one certificate in forty wrong, and 1.25 one in two hundred, at a tenth more of cost.
SAFETY = 1.3
#: Chances are those of Student's t, as deviations are themselves estimated: with so many degrees of freedom, and one more for
#: each full training. Chances of the normal made certificates wrong that rested on four or five trainings of unruly curves.
FREEDOM = 4
#: Points of the standard normal at which the outcome of a partial training is considered.
OUTCOMES = np.linspace(-3.0, 3.0, 25)


@dataclass
class Knowledge:
    """What was bought so far.

    Args:
        errors: log e, NaN where it was not bought, [N, R].
        failed: Candidates whose training diverged, [N].
        taken: Candidates that another worker is at, and whose errors are on their way, [N].
        spent: Training steps that all of it took, failed trainings included, and what is set aside for those that are taken.
        order: (candidate, rung) in the order in which they were bought.
    """

    errors: Array
    failed: npt.NDArray[np.bool_]
    taken: npt.NDArray[np.bool_]
    spent: float = 0.0
    order: list[tuple[int, int]] = field(default_factory=list)

    @property
    def reached(self) -> Integers:
        """The furthest rung of each candidate, −1 where there is none, [N]."""
        return np.sum(np.isfinite(self.errors), axis=1).astype(np.int64) - 1


@dataclass
class Outlook:
    """What is thought of every candidate.

    Args:
        threat: Chance that the candidate is better than the best that was trained to the last rung, [N]; 0 for those.
        mean: Expected log e at the last rung, [N].
        deviation: Its standard deviation, widened by ``widening``, [N].
        hurdle: log e below which the candidate would be the best, [N].
        widening: By how much the spread of the process had to be widened to cover the errors that were bought.
        outside: Share of the errors bought that lay outside the 95 % interval that the others predicted for them.
    """

    threat: Array
    mean: Array
    deviation: Array
    hurdle: Array
    widening: float
    outside: float


class Planner:
    """Plans purchases of errors, from what is known and nothing else.

    Args:
        savings: The size-latency product of each candidate, [N].
        features: Features of each candidate, [N, F].
        rungs: Step counts, ascending.
        budget: Steps to spend at most.
        confidence: The search is over when the threats sum up to less than 1 − confidence.
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
        #: Without savings W is nothing, whatever the error.
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
        """Returns the first purchases: shapes spread over the space, about as many steps spent at each doubling of the steps.

        So many go to the first rung, half of them on to twice its steps, and so forth up to the rung before the last: how much
        an early error says of a late one has to be seen, since curves may be flat at first, or cross.
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
        """Returns the first candidates to be taken to the last rung: the most promising one, and others far from each other.

        They show how curves go on, so they are spread; and as the winner may be among them, over the more promising half.
        """
        full = left / self.steps[-1]
        count = min(int(np.clip(round(ANCHOR_SHARE * full), ANCHOR_LEAST, ANCHOR_MOST)), int(full))
        free = np.flatnonzero(self.eligible & ~known.failed & ~known.taken)
        if not count or not len(free):
            return []
        expected = np.exp(look.mean[free])
        promise = w(self.savings[free], expected, self._scale)
        # With the complement, W is 0 wherever an error of 1 or more is expected: then the smallest error is the most promising.
        better = free[np.lexsort((expected, -promise))][: max(count, (len(free) + 1) // ANCHOR_AMONG)]
        return [(c, len(self.rungs) - 1) for c in self._spread(better, min(count, len(better)), first=0)]

    def _spread(self, eligible: Integers, count: int, first: int | None = None) -> list[int]:
        """Returns candidates far from each other, beginning with ``first`` or the one nearest to the middle."""
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
        """Returns what is thought of every candidate, and the process behind it."""
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
        """Returns by how much errors that the others were asked to predict lie further off than the process thinks."""
        squares = np.minimum(left_out, 6.0) ** 2
        # As if eight more of them had been as expected, so that a few cannot decide.
        return float(np.sqrt(max(1.0, (squares.sum() + 8.0) / (len(squares) + 8.0))))

    def _fit(self, known: Knowledge) -> None:
        """Fits the scales at fixed counts of errors, so that they depend on what is known and not on who asked before."""
        milestone = 1
        while milestone * 1.25 + 1 <= len(known.order):
            milestone = int(milestone * 1.25 + 1)
        if milestone != self._fitted_to:
            self._surrogate.fit(self._data(known, FIT_MOST, milestone))
            self._fitted_to = milestone

    def _data(self, known: Knowledge, most: int, first: int | None = None) -> Observations:
        """Returns the errors to learn from: the latest, and of each candidate the furthest, where there are too many."""
        bought = known.order[:first]
        if len(bought) > most:
            furthest = dict(bought)
            rank = [(furthest[c] == r, r, place) for place, (c, r) in enumerate(bought)]
            kept = sorted(range(len(bought)), key=lambda place: rank[place], reverse=True)[:most]
            bought = [bought[place] for place in sorted(kept)]
        candidates = np.array([c for c, _ in bought], dtype=np.int64)
        rungs = np.array([r for _, r in bought], dtype=np.int64)
        return Observations(candidates, rungs, known.errors[candidates, rungs])

    def plan(self, known: Knowledge) -> tuple[list[tuple[int, int]], Outlook | None]:
        """Returns the next purchases as (candidate, rung), best first; none when the search is over.

        For a candidate and each rung it could be taken to next, the plan considers to go there, and on to the last rung only
        where the error found is good enough. Of all such attempts, the one is best that has the largest chance to come upon the
        winner for each step it is expected to cost.
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
        threat = np.where(affordable & ~known.taken, look.threat, 0.0)
        shortlist = np.argsort(-threat, kind="stable")[:SHORTLIST]
        shortlist = shortlist[threat[shortlist] > 0]
        if not len(shortlist):
            return [], look
        value, target = self._attempts(shortlist, self._chances(shortlist, look, posterior), reached, paid, posterior)
        many = max(1, len(known.order) // BOUGHT_PER_PURCHASE, int(self.budget / self.steps[-1] / FULL_PER_PURCHASE))
        ranked = np.argsort(-value, kind="stable")[:many]
        chosen: list[tuple[int, int]] = []
        for place in ranked:
            candidate = int(shortlist[place])
            if self.steps[-1] - paid[candidate] <= left:
                chosen.append((candidate, int(target[place])))
                left -= self.steps[-1] - paid[candidate]
        return chosen, look

    def _another(self, known: Knowledge, left: float) -> list[tuple[int, int]]:
        """Returns the next candidate to be trained where all so far have failed."""
        untried = np.flatnonzero(self.eligible & ~known.failed & ~known.taken)
        if not len(untried) or left < self.steps[-1]:
            return []
        return [(self._spread(untried, 1)[0], len(self.rungs) - 1)]

    def _chances(self, shortlist: Integers, look: Outlook, posterior: Posterior) -> Array:
        """Returns the chance that each candidate is the winner: the share of joint draws in which it is the best of all, [M].

        What all curves have in common shifts them together, and so does what similar shapes have: the threats of a hundred
        candidates may be large while only three of them can be the winner.
        """
        covariance = posterior.together(shortlist)
        factor = (look.deviation[shortlist] / np.sqrt(np.diag(covariance)))[:, None] * np.linalg.cholesky(covariance)
        draws = look.mean[shortlist] + np.random.default_rng(0).normal(size=(DRAWS, len(shortlist))) @ factor.T
        values = w(self.savings[shortlist], np.exp(draws), self._scale)
        better = draws < look.hurdle[shortlist]
        best = np.argmax(np.where(better, values, -np.inf), axis=1)
        wins = np.bincount(best[better.any(axis=1)], minlength=len(shortlist))
        # One draw more is shared out by the threats, so that nobody who may be better counts for nothing.
        return np.asarray((wins + look.threat[shortlist]) / (DRAWS + 1.0))

    def _attempts(
        self, shortlist: Integers, chances: Array, reached: Integers, paid: Array, posterior: Posterior
    ) -> tuple[Array, Integers]:
        """Returns, for each candidate, the chance of the winner for each step of its best attempt, and the rung to go to first."""
        from scipy.special import ndtr, ndtri

        last = len(self.rungs) - 1
        _, variances, covariances = posterior.curves(shortlist, np.arange(last + 1))
        correlation = covariances / np.sqrt(variances * variances[:, -1:])
        # The smaller the error at the rung, the better: outcomes are counted as W, where up is good.
        correlation = np.clip(correlation, 0.0, 0.9999)
        weight = np.exp(-0.5 * OUTCOMES**2)
        weight /= weight.sum()
        # As far beyond what is expected as the winner of such a chance is.
        hurdle = -ndtri(chances)
        value = chances / (self.steps[-1] - paid[shortlist])
        target = np.full(len(shortlist), last)
        for rung in range(last):
            open_to = reached[shortlist] < rung
            rho = correlation[:, rung]
            caught = ndtr((rho[:, None] * OUTCOMES - hurdle[:, None]) / np.sqrt(1.0 - rho[:, None] ** 2)) * weight
            # Summed from the best outcome down: what is caught, and how likely it is to go on, for each hurdle that could be set.
            mass = np.cumsum(caught[:, ::-1], axis=1)
            passing = np.cumsum(weight[::-1])
            price = (self.steps[rung] - paid[shortlist])[:, None] + passing * (self.steps[-1] - self.steps[rung])
            best = np.max(mass / np.maximum(price, 1e-9), axis=1)
            better = open_to & (best > value)
            value, target = np.where(better, best, value), np.where(better, rung, target)
        return value, target
