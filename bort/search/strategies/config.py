"""Settings of the search strategies, by name."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Interval

from bort.registry import REQUIRED, Registry

if TYPE_CHECKING:
    from bort.search.problem import Problem
    from bort.search.strategies.base import Strategy


@dataclass
class StrategyConfig:
    """Settings of a search strategy."""

    name: str = REQUIRED
    """The strategy's name in the registry."""

    #: Whether the strategy draws nothing, so that its seed has no effect.
    deterministic: ClassVar[bool] = False

    def build(self, problem: Problem, seed: int) -> Strategy:
        """Build the strategy.

        Raises:
            ConfigurationError: The strategy is unknown, or a setting does not go with the problem.
        """
        raise STRATEGIES.unknown(self.name)

    @classmethod
    def at_budget(cls, share: float, candidates: int) -> StrategyConfig | None:
        """Return the settings for a replay that spends at most ``share`` of the exhaustive steps; ``None`` if there are none.

        Args:
            share: In (0, 1]. A share below the cost of one full training counts as one.
            candidates: Candidates that the exhaustive search trains.
        """
        return None

    def identity(self, seed: int) -> dict[str, Any]:
        """Return the strategy's part of a study's identity."""
        return {"seed": seed, **{f"strategy.{key}": value for key, value in asdict(self).items()}}


STRATEGIES: Registry[StrategyConfig] = Registry("strategy")


def replayable() -> list[str]:
    """Return the names of the strategies that can be held to a budget."""
    return [name for name, kind in STRATEGIES.items() if kind.at_budget(1.0, 1) is not None]


def full_trainings(share: float, candidates: int) -> int:
    """Return how many full trainings a share of the exhaustive steps pays for, at least one."""
    return max(1, math.floor(share * candidates + 1e-9))


@STRATEGIES.register
@dataclass
class BoundConfig(StrategyConfig):
    """Evaluation of e only for candidates that can still win according to a confidence bound; p and i are exact."""

    name: str = "bound"

    budget: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """Largest number of training steps, as a share of the cost of the exhaustive search."""

    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.99
    """The search ends when the probability that any dropped candidate is better than the winner is below
    1 − ``confidence``, under the assumptions that the certificate states.
    """

    minimum_full: Annotated[int, Ge(1)] = 3
    """Full trainings that are allowed even if they exceed ``budget``: in a space of fewer than 30 candidates
    the default budget is less than three trainings, too few to fit a learning curve.
    """

    deterministic: ClassVar[bool] = True

    def build(self, problem: Problem, seed: int) -> Strategy:
        """Build the strategy."""
        from bort.search.strategies.bound import BoundStrategy

        return BoundStrategy(problem, budget=self.budget, confidence=self.confidence, minimum_full=self.minimum_full)

    @classmethod
    def at_budget(cls, share: float, candidates: int) -> StrategyConfig:
        """Return the settings for a replay; a share below the cost of two full trainings counts as two, for the screening."""
        return cls(budget=share, minimum_full=1 if share * candidates >= 1.5 else 2)


@STRATEGIES.register
@dataclass
class OseConfig(StrategyConfig):
    """The paper's algorithm: train every ε-th architecture of the ordered space to the last step."""

    name: str = "ose"

    stride: Annotated[int, Ge(1)] = 1
    """ε, from 1 (exhaustive) to the size of the space."""

    deterministic: ClassVar[bool] = True

    def build(self, problem: Problem, seed: int) -> Strategy:
        """Build the strategy."""
        from bort.search.strategies.ose import OseStrategy

        return OseStrategy(problem, self.stride)

    @classmethod
    def at_budget(cls, share: float, candidates: int) -> StrategyConfig:
        """Return the settings for a replay."""
        return cls(stride=math.ceil(candidates / full_trainings(share, candidates)))


@STRATEGIES.register
@dataclass
class RandomConfig(StrategyConfig):
    """Candidates drawn uniformly from the space."""

    name: str = "random"

    trials: Annotated[int, Ge(1)] = 30
    """Distinct candidates to train; repeated draws are answered from the cache and not counted."""

    def build(self, problem: Problem, seed: int) -> Strategy:
        """Build the strategy."""
        from bort.search.strategies.sampled import SampledStrategy, random_sampler

        return SampledStrategy(problem, seed, self.trials, random_sampler)

    @classmethod
    def at_budget(cls, share: float, candidates: int) -> StrategyConfig:
        """Return the settings for a replay."""
        return cls(trials=full_trainings(share, candidates))


@STRATEGIES.register
@dataclass
class TpeConfig(StrategyConfig):
    """Optuna's tree-structured Parzen estimator, which maximizes W."""

    name: str = "tpe"

    trials: Annotated[int, Ge(1)] = 30
    """Distinct candidates to train; repeated proposals are answered from the cache and not counted."""

    startup: Annotated[int, Ge(0)] = 10
    """Random candidates before the estimator starts: a third of the default ``trials``, as it needs
    candidates to compare.
    """

    def build(self, problem: Problem, seed: int) -> Strategy:
        """Build the strategy."""
        from bort.search.strategies.sampled import SampledStrategy, tpe_sampler

        return SampledStrategy(problem, seed, self.trials, partial(tpe_sampler, startup=self.startup))

    @classmethod
    def at_budget(cls, share: float, candidates: int) -> StrategyConfig:
        """Return the settings for a replay."""
        trials = full_trainings(share, candidates)
        return cls(trials=trials, startup=max(3, trials // 3))


@STRATEGIES.register
@dataclass
class Nsga2Config(StrategyConfig):
    """Optuna's genetic algorithm on the three objectives p, i and e."""

    name: str = "nsga2"

    trials: Annotated[int, Ge(1)] = 30
    """Distinct candidates to train; repeated proposals are answered from the cache and not counted."""

    population: Annotated[int, Ge(2)] = 10
    """Size of a generation: three generations of the default ``trials``; fewer would be random search."""

    def build(self, problem: Problem, seed: int) -> Strategy:
        """Build the strategy."""
        from bort.search.strategies.sampled import SampledStrategy, nsga2_sampler

        sampler = partial(nsga2_sampler, population=self.population)
        return SampledStrategy(problem, seed, self.trials, sampler, objectives=3)

    @classmethod
    def at_budget(cls, share: float, candidates: int) -> StrategyConfig:
        """Return the settings for a replay."""
        trials = full_trainings(share, candidates)
        return cls(trials=trials, population=max(4, trials // 3))
