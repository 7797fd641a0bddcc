"""The strategies: what to train next, given all that the study knows."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from bort.errors import ConfigurationError
from bort.search.config import BoundConfig, Nsga2Config, OseConfig, RandomConfig, StrategyConfig, TpeConfig
from bort.search.decisions import Begin, Climb, Decision, Done, Wait
from bort.search.ledger import Ledger
from bort.search.problem import Candidate, Problem
from bort.search.samplers import chosen_sampler, valid_sampler

if TYPE_CHECKING:
    import optuna


class Strategy(Protocol):
    """Decides what is trained next, from what the study knows and nothing else, so that any worker can take over at any moment."""

    @property
    def directions(self) -> list[str]:
        """The study's objectives: ``["maximize"]`` for W, or three times ``minimize`` for p, i and e."""

    @property
    def budget(self) -> float:
        """Training steps that the search takes at most."""

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Returns the Optuna sampler that proposes new candidates."""

    def decide(self, ledger: Ledger) -> Decision:
        """Returns what to do next."""

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """Ends what is left unfinished, once the search is over, and returns what the certificate says of the strategy."""


def make_strategy(config: StrategyConfig, problem: Problem, seed: int) -> Strategy:
    """Builds the strategy of a configuration.

    Raises:
        ConfigurationError: The strategy is unknown or one of its settings cannot be used.
    """
    if isinstance(config, OseConfig):
        return OseStrategy(config, problem)
    if isinstance(config, BoundConfig):
        from bort.search.bound import BoundStrategy

        return BoundStrategy(config, problem, seed)
    if isinstance(config, (RandomConfig, TpeConfig, Nsga2Config)):
        return SampledStrategy(config, problem, seed)
    raise ConfigurationError("strategy", config.name, "use ose, random, tpe, nsga2 or bound")


def describe(config: StrategyConfig, seed: int) -> dict[str, Any]:
    """Returns the strategy's part of a study's identity."""
    return {"seed": seed, **{f"strategy.{key}": value for key, value in asdict(config).items()}}


def climb_or_wait(ledger: Ledger) -> Decision | None:
    """Returns the next rung of the first begun candidate that nobody is at; ``None`` where every begun candidate has ended."""
    for entry in ledger.running.values():
        if not ledger.busy(entry):
            return Climb(entry, ledger.rungs[len(entry.curve)])
    return Wait() if ledger.running else None


class OseStrategy:
    """The paper's algorithm: every ε-th architecture of the order, with each θ, to the last step."""

    directions: ClassVar[list[str]] = ["maximize"]

    def __init__(self, config: OseConfig, problem: Problem) -> None:
        shapes = len(problem.space)
        if not 1 <= config.stride <= shapes:
            raise ConfigurationError("strategy.stride", config.stride, f"a whole number from 1 to {shapes}, the size of the space")
        thetas = len(problem.search.thetas)
        # The stride runs over architectures: each one that is kept is tried with every θ.
        self._pool = [candidate for candidate in problem.feasible if (candidate.index // thetas) % config.stride == 0]
        if not self._pool:
            raise ConfigurationError("strategy.stride", config.stride, "no architecture that it reaches keeps within the limits")
        self._stride, self._position = config.stride, 0
        self.budget: float = len(self._pool) * problem.estimator.rungs[-1]

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Returns a sampler that proposes the order."""
        return chosen_sampler(ledger.problem, lambda: self._next(ledger))

    def _next(self, ledger: Ledger) -> Candidate | None:
        while self._position < len(self._pool) and self._pool[self._position].index in ledger.by_index:
            self._position += 1
        return self._pool[self._position] if self._position < len(self._pool) else None

    def decide(self, ledger: Ledger) -> Decision:
        """Takes up what was left, then begins the next of the order."""
        decision = climb_or_wait(ledger)
        if isinstance(decision, Climb):
            return decision
        following = self._next(ledger)
        return Begin(following) if following is not None else decision or Done()

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """Nothing is left; the winner is the best of the strided order."""
        sense = "exact over the space" if self._stride == 1 else f"the best of every {self._stride}-th architecture of the order"
        return {"sense": sense, "stride": self._stride, "screened": 0, "dropped_by_bound": 0}


class SampledStrategy:
    """Optuna's samplers: a number of distinct candidates, each trained to the last step."""

    #: Repeated proposals in a row after which one is drawn evenly, so that a sampler that has settled still spends its budget.
    PATIENCE = 10

    def __init__(self, config: RandomConfig | TpeConfig | Nsga2Config, problem: Problem, seed: int) -> None:
        if config.trials < 1:
            raise ConfigurationError("strategy.trials", config.trials, "a whole number of at least 1 is needed")
        if isinstance(config, Nsga2Config) and config.population < 2:
            raise ConfigurationError("strategy.population", config.population, "a whole number of at least 2 is needed")
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
