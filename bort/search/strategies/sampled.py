"""Optuna's samplers as strategies: random, TPE and NSGA-II."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from bort.search.config import Nsga2Config, RandomConfig, TpeConfig
from bort.search.problem import Problem
from bort.search.strategies.base import Begin, Climb, Decision, Done, climb_or_wait
from bort.search.strategies.samplers import valid_sampler
from bort.search.study import Ledger

if TYPE_CHECKING:
    import optuna


class SampledStrategy:
    """Optuna's samplers: a number of distinct candidates, each trained to the last step."""

    #: Repeated proposals in a row after which one is drawn evenly, so that a sampler that has settled still spends its budget.
    PATIENCE = 10

    def __init__(self, config: RandomConfig | TpeConfig | Nsga2Config, problem: Problem, seed: int) -> None:
        self._config, self._problem, self._seed = config, problem, seed
        self._trials = min(config.trials, len(problem.feasible))
        self.budget: float = self._trials * problem.estimator.rungs[-1]
        self.directions: list[str] = ["minimize"] * 3 if isinstance(config, Nsga2Config) else ["maximize"]

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Returns Optuna's sampler, kept to valid candidates within the limits."""
        return valid_sampler(ledger, self._inner, self._seed, self.PATIENCE)

    def _inner(self, seed: int) -> optuna.samplers.BaseSampler:
        from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Some of these settings are marked as experimental.
            if isinstance(self._config, TpeConfig):
                return TPESampler(seed=seed, n_startup_trials=self._config.startup, multivariate=True)
            if isinstance(self._config, Nsga2Config):
                return NSGAIISampler(seed=seed, population_size=self._config.population)
            return RandomSampler(seed=seed)

    def decide(self, ledger: Ledger) -> Decision:
        """Takes up what was left, then asks the sampler until the budget is begun."""
        decision = climb_or_wait(ledger)
        if isinstance(decision, Climb):
            return decision
        return Begin() if len(ledger.entries) < self._trials else decision or Done()

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """Nothing is left; the winner is the best of what was drawn."""
        share = len(ledger.entries) / len(self._problem.feasible)
        sense = "exact over the space" if share == 1 else f"the best of the {share:.1%} of the candidates that the sampler proposed"
        return {"sense": sense, "screened": 0, "dropped_by_bound": 0}
