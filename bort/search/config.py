"""What can be said of a search: its space, its strategy, where errors come from and where the study is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bort.errors import ConfigurationError

#: What a required setting holds until it is given; OmegaConf knows it by the same sign.
REQUIRED = "???"

ERROR_SCALES = ("reciprocal", "relative", "complement")


@dataclass
class SearchSpaceConfig:
    """The search space Ξ: every valid combination of the lists.

    Args:
        depth: Numbers of layers.
        heads: Numbers of attention heads; combinations whose hidden size is not a multiple are left out.
        hidden: Hidden sizes.
        intermediate: Widths of the feed-forward layer.
        maximum_point: T, which fixes the scale of W: ``teacher`` (its shape, or 24-16-1024-4096 where there is none), ``largest``
            (of the space), or a shape such as ``24-16-1024-4096``.
    """

    depth: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    intermediate: list[int] = field(default_factory=list)
    maximum_point: str = "teacher"


@dataclass
class SearchConfig:
    """What is asked of the winner, and how W is made.

    Args:
        max_parameters: Largest p allowed; no limit when empty.
        max_operations: Largest count of multiply-adds allowed; no limit when empty.
        max_latency_ms: Largest measured latency allowed, in milliseconds; no limit when empty. Needs a measured latency.
        thetas: Θ, the hyperparameter sets: training settings that replace the defaults. Each is tried with each architecture.
        error_scale: How e enters W: ``reciprocal`` 1/e, ``relative`` e(T)/e, or ``complement`` 1 − e, which is 0 for e >= 1.
        maximum_point_error: e(T), for ``relative``.
    """

    max_parameters: int | None = None
    max_operations: int | None = None
    max_latency_ms: float | None = None
    thetas: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    error_scale: str = "reciprocal"
    maximum_point_error: float | None = None

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A limit is not positive, Θ is empty or repeats itself, or the scale of e is unknown or incomplete.
        """
        for key in ("max_parameters", "max_operations", "max_latency_ms"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ConfigurationError(f"search.{key}", value, "a positive number is needed, or null for no limit")
        if not self.thetas:
            raise ConfigurationError(
                "search.thetas", self.thetas, "at least one hyperparameter set is needed; [{}] is the default one"
            )
        if any(theta in self.thetas[:index] for index, theta in enumerate(self.thetas)):
            raise ConfigurationError("search.thetas", self.thetas, "every hyperparameter set must differ from the others")
        if self.error_scale not in ERROR_SCALES:
            raise ConfigurationError("search.error_scale", self.error_scale, f"use one of {', '.join(ERROR_SCALES)}")
        if self.error_scale == "relative" and not (self.maximum_point_error or 0.0) > 0:
            raise ConfigurationError(
                "search.maximum_point_error", self.maximum_point_error, "error_scale=relative needs e(T), a positive number"
            )


@dataclass
class StrategyConfig:
    """How the search goes about it.

    Args:
        name: ``ose``, ``random``, ``tpe``, ``nsga2`` or ``bound``.
    """

    name: str = REQUIRED


@dataclass
class OseConfig(StrategyConfig):
    """The paper's algorithm: every ε-th architecture of the ordered space is trained to the last step.

    Args:
        stride: ε, from 1 (exhaustive) to the size of the space.
    """

    name: str = "ose"
    stride: int = 1


@dataclass
class RandomConfig(StrategyConfig):
    """Candidates drawn evenly from the space.

    Args:
        trials: Distinct candidates to train; repeated draws are answered from memory and not counted.
    """

    name: str = "random"
    trials: int = 30


@dataclass
class TpeConfig(StrategyConfig):
    """Optuna's tree-structured Parzen estimator, which maximises W.

    Args:
        trials: Distinct candidates to train; repeated proposals are answered from memory and not counted.
        startup: Random candidates before the estimator starts.
    """

    name: str = "tpe"
    trials: int = 30
    startup: int = 10


@dataclass
class Nsga2Config(StrategyConfig):
    """Optuna's genetic algorithm on the three objectives p, i and e.

    Args:
        trials: Distinct candidates to train; repeated proposals are answered from memory and not counted.
        population: Size of a generation.
    """

    name: str = "nsga2"
    trials: int = 30
    population: int = 10


@dataclass
class BoundConfig(StrategyConfig):
    """p and i are known, so only e is bought, where a bound says that it can still decide the winner.

    Args:
        budget: Training steps to spend at most, as a share of what the exhaustive search would cost.
        confidence: How sure the bound is: the search ends when the chance that any dropped candidate is better than the winner is
            below 1 − confidence, under the assumptions that the certificate states.
        minimum_full: Full trainings that are allowed even where ``budget`` does not pay for so many; for small spaces.
    """

    name: str = "bound"
    budget: float = 0.1
    confidence: float = 0.99
    minimum_full: int = 3


@dataclass
class StorageConfig:
    """Where the study is kept, so that any number of workers share it and it survives them.

    Args:
        name: ``journal``, ``sqlite``, ``postgres`` or ``memory`` (for replays: nothing is kept).
        study: The study's name within the storage.
    """

    name: str = REQUIRED
    study: str = "search"


@dataclass
class MemoryStorageConfig(StorageConfig):
    """A study that lives as long as its process; for replays and tests."""

    name: str = "memory"


@dataclass
class JournalStorageConfig(StorageConfig):
    """A journal file: nothing has to be started. Workers on several machines need a file system that they share, with locks.

    Args:
        path: The file; by default ``study.journal`` in the search's directory.
    """

    name: str = "journal"
    path: str | None = None


@dataclass
class SqliteStorageConfig(StorageConfig):
    """A SQLite file, for tools that read nothing else; a journal is faster. Workers on several machines need a shared file system.

    Args:
        path: The file; by default ``study.db`` in the search's directory.
    """

    name: str = "sqlite"
    path: str | None = None


@dataclass
class PostgresStorageConfig(StorageConfig):
    """A PostgreSQL database.

    Args:
        url: ``postgresql://user:password@host:port/database``.
    """

    name: str = "postgres"
    url: str = REQUIRED
