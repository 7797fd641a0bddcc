"""Optuna's samplers as strategies: random, TPE and NSGA-II."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bort.search.problem import Problem
from bort.search.strategies.base import Decision, Promote, Start, Stop, promote_or_wait
from bort.search.strategies.samplers import valid_sampler
from bort.search.study import Ledger

if TYPE_CHECKING:
    import optuna


class SampledStrategy:
    """An Optuna sampler: a number of distinct candidates, each trained to the last step.

    Args:
        problem: The search problem.
        seed: The study's seed.
        trials: Distinct candidates to train.
        sampler_of: Makes the Optuna sampler from a seed.
        objectives: 1 to maximize W, or 3 to minimize p, i and e.
    """

    #: Repeated proposals in a row after which one is drawn uniformly, so that a converged sampler still spends its budget.
    PATIENCE = 10

    def __init__(
        self,
        problem: Problem,
        seed: int,
        trials: int,
        sampler_of: Callable[[int], optuna.samplers.BaseSampler],
        objectives: int = 1,
    ) -> None:
        self._problem, self._seed, self._sampler_of = problem, seed, sampler_of
        self._trials = min(trials, len(problem.feasible))
        self.budget: float = self._trials * problem.estimator.rungs[-1]
        self.directions: list[str] = ["maximize"] if objectives == 1 else ["minimize"] * objectives

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Return Optuna's sampler, restricted to valid candidates within the limits."""
        return valid_sampler(ledger, self._sampler_of, self._seed, self.PATIENCE)

    def decide(self, ledger: Ledger) -> Decision:
        """Promote what was started before, then start the sampler's proposals until the budget is used."""
        decision = promote_or_wait(ledger)
        if isinstance(decision, Promote):
            return decision
        return Start() if len(ledger.entries) < self._trials else decision or Stop()

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """Return the certificate's part; nothing is left, and the winner is the best of what was drawn."""
        share = len(ledger.entries) / len(self._problem.feasible)
        sense = "exact over the space" if share == 1 else f"the best of the {share:.1%} of the candidates that the sampler proposed"
        return {"sense": sense, "screened": 0, "dropped_by_bound": 0}


def random_sampler(seed: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's random sampler."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def tpe_sampler(seed: int, startup: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's TPE sampler."""
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # multivariate is marked as experimental.
        return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True)


def nsga2_sampler(seed: int, population: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's NSGA-II sampler."""
    from optuna.samplers import NSGAIISampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return NSGAIISampler(seed=seed, population_size=population)
