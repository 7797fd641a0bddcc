"""From the configuration of a strategy to the strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bort.errors import ConfigurationError
from bort.search.config import BoundConfig, Nsga2Config, OseConfig, RandomConfig, StrategyConfig, TpeConfig
from bort.search.problem import Problem
from bort.search.strategies.base import Strategy
from bort.search.strategies.ose import OseStrategy
from bort.search.strategies.sampled import SampledStrategy
from bort.settings import check_settings

if TYPE_CHECKING:
    pass


def make_strategy(config: StrategyConfig, problem: Problem, seed: int) -> Strategy:
    """Builds the strategy of a configuration.

    Raises:
        ConfigurationError: The strategy is unknown or one of its settings cannot be used.
    """
    check_settings(config, "strategy")
    if isinstance(config, OseConfig):
        return OseStrategy(config, problem)
    if isinstance(config, BoundConfig):
        from bort.search.strategies.bound import BoundStrategy

        return BoundStrategy(config, problem, seed)
    if isinstance(config, (RandomConfig, TpeConfig, Nsga2Config)):
        return SampledStrategy(config, problem, seed)
    raise ConfigurationError("strategy", config.name, "use ose, random, tpe, nsga2 or bound")
