"""Settings of a search: its space, its objective, its strategy and the storage of its study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, MinLen

from bort.errors import ConfigurationError
from bort.settings import DISTINCT, OneOf

#: The default of a required setting, as in OmegaConf.
REQUIRED = "???"

ERROR_SCALES = ("reciprocal", "relative", "complement")


@dataclass
class SearchSpaceConfig:
    """The search space Ξ: every valid combination of the lists."""

    depth: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=list)
    """Numbers of layers."""

    heads: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=list)
    """Numbers of attention heads; combinations whose hidden size is not a multiple are skipped."""

    hidden: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=list)
    """Hidden sizes."""

    intermediate: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=list)
    """Widths of the feed-forward layer."""

    maximum_point: str = "teacher"
    """T, which fixes the scale of W: ``teacher`` (its shape, or 24-16-1024-4096 without a teacher), ``largest``
    (of the space), or a shape such as ``24-16-1024-4096``.
    """


@dataclass
class SearchConfig:
    """Limits on the winner, Θ, and the scale of W."""

    max_parameters: Annotated[int, Ge(1)] | None = None
    """Largest p allowed; no limit if ``null``."""

    max_operations: Annotated[int, Ge(1)] | None = None
    """Largest number of multiply-adds allowed; no limit if ``null``."""

    max_latency_ms: Annotated[float, Gt(0)] | None = None
    """Largest measured latency allowed, in milliseconds; no limit if ``null``. Requires a measured latency."""

    thetas: Annotated[list[dict[str, Any]], MinLen(1), DISTINCT] = field(default_factory=lambda: [{}])
    """Θ, the hyperparameter sets: training settings that replace the defaults. Each is tried with each
    architecture.
    """

    error_scale: Annotated[str, OneOf(*ERROR_SCALES)] = "reciprocal"
    """How e enters W: ``reciprocal`` 1/e, ``relative`` e(T)/e, or ``complement`` 1 − e, which is 0 for e >= 1."""

    maximum_point_error: Annotated[float, Gt(0)] | None = None
    """e(T), for ``relative``."""

    def check(self, key: str) -> None:
        """Refuse a relative scale without its e(T)."""
        if self.error_scale == "relative" and self.maximum_point_error is None:
            accepted = f"must be a number > 0 with {key}.error_scale=relative"
            raise ConfigurationError(f"{key}.maximum_point_error", None, accepted)


@dataclass
class StrategyConfig:
    """The search strategy."""

    name: str = REQUIRED
    """``ose``, ``random``, ``tpe``, ``nsga2`` or ``bound``."""


@dataclass
class OseConfig(StrategyConfig):
    """The paper's algorithm: train every ε-th architecture of the ordered space to the last step."""

    name: str = "ose"

    stride: Annotated[int, Ge(1)] = 1
    """ε, from 1 (exhaustive) to the size of the space."""


@dataclass
class RandomConfig(StrategyConfig):
    """Candidates drawn uniformly from the space."""

    name: str = "random"

    trials: Annotated[int, Ge(1)] = 30
    """Distinct candidates to train; repeated draws are answered from the cache and not counted."""


@dataclass
class TpeConfig(StrategyConfig):
    """Optuna's tree-structured Parzen estimator, which maximizes W."""

    name: str = "tpe"

    trials: Annotated[int, Ge(1)] = 30
    """Distinct candidates to train; repeated proposals are answered from the cache and not counted."""

    startup: Annotated[int, Ge(0)] = 10
    """Random candidates before the estimator starts."""


@dataclass
class Nsga2Config(StrategyConfig):
    """Optuna's genetic algorithm on the three objectives p, i and e."""

    name: str = "nsga2"

    trials: Annotated[int, Ge(1)] = 30
    """Distinct candidates to train; repeated proposals are answered from the cache and not counted."""

    population: Annotated[int, Ge(2)] = 10
    """Size of a generation."""


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
    """Full trainings that are allowed even if they exceed ``budget``; for small spaces."""


@dataclass
class StorageConfig:
    """The storage of the study, which any number of workers share and which outlives them."""

    name: str = REQUIRED
    """``journal``, ``sqlite``, ``postgres`` or ``memory`` (for replays: nothing is stored)."""

    study: str = "search"
    """The study's name within the storage."""


@dataclass
class MemoryStorageConfig(StorageConfig):
    """A study in the memory of its process; for replays and tests."""

    name: str = "memory"


@dataclass
class JournalStorageConfig(StorageConfig):
    """A journal file, which needs no server. Workers on several machines need a shared file system with locks."""

    name: str = "journal"

    path: str | None = None
    """The file; ``study.journal`` in the search's directory if ``null``."""


@dataclass
class SqliteStorageConfig(StorageConfig):
    """A SQLite file, for tools that read no journal; slower. Workers on several machines need a shared file system."""

    name: str = "sqlite"

    path: str | None = None
    """The file; ``study.db`` in the search's directory if ``null``."""


@dataclass
class PostgresStorageConfig(StorageConfig):
    """A PostgreSQL database."""

    name: str = "postgres"

    url: str = REQUIRED
    """``postgresql://user:password@host:port/database``."""
