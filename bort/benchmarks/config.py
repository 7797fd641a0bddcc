"""What can be said of a search benchmark: how it is replayed, and what it is put together from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen

from bort.errors import ConfigurationError
from bort.search.strategies.config import replayable
from bort.settings import DISTINCT, OneOf, Rule, shape_or

#: Tables that a strategy is replayed on: one drawn for each seed from the measured ones, or the one that ``error`` names itself.
TABLES = ("drawn", "measured")

_ASCENDING = Rule("in ascending order", lambda values: values == sorted(set(values)))
_Budgets = Annotated[list[Annotated[float, Interval(gt=0, le=1)]], MinLen(1), _ASCENDING]


def _triple(most: float) -> Rule:
    limit = "" if math.isinf(most) else f" and high <= {most:g}"
    return Rule(
        f"[low, likely, high] in ascending order with low > 0{limit}",
        lambda values: len(values) == 3 and sorted(values) == list(values) and values[0] > 0 and values[2] <= most,
    )


_CSV = Rule("the name of a .csv file", lambda name: name.endswith(".csv"))
_THREE, _THREE_SHARES = _triple(math.inf), _triple(1.0)


@dataclass
class ReplayConfig:
    """How strategies are compared on a table of errors."""

    seeds: Annotated[int, Ge(1)] = 200
    """Replays of each strategy at each budget; the seeds are 0, 1, …."""

    budgets: _Budgets = field(default_factory=lambda: [0.02, 0.05, 0.1, 0.2, 0.5])
    """Training steps that a strategy may spend, as shares of what the exhaustive search costs."""

    strategies: Annotated[list[str], MinLen(1), DISTINCT] = field(default_factory=replayable)
    """Names of strategies; the others are compared with the first."""

    tables: Annotated[list[Annotated[str, OneOf(*TABLES)]], MinLen(1), DISTINCT] = field(default_factory=lambda: list(TABLES))
    """Any of ``drawn`` and ``measured``."""

    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """Level of the intervals."""

    resamples: Annotated[int, Ge(100)] = 2000
    """Bootstrap resamples of the intervals of means."""

    def check(self, key: str) -> None:
        """Refuse strategies that cannot be held to a budget."""
        if not set(self.strategies) <= set(replayable()):
            accepted = f"must be a list of strings, each entry one of {', '.join(replayable())}"
            raise ConfigurationError(f"{key}.strategies", self.strategies, accepted)


@dataclass
class CollectConfig:
    """What a table for replays is put together from."""

    searches: Annotated[list[str], DISTINCT] = field(default_factory=list)
    """Folders of finished searches that trained; together they hold each architecture once for each seed."""

    table: Annotated[str, _CSV] | None = None
    """A CSV file that the table is also written to, with ``manifest.json`` beside it; null for the stage's
    folder alone.
    """

    latency: bool = False
    """Whether the latency of every architecture is measured now and joins the table as the column
    ``latency_ms``: the median of one forward pass of the encoder in PyTorch on the processor, with one
    thread, one sequence and 128 tokens.
    """

    repeats: Annotated[int, Ge(5)] = 50
    """Rounds of that measurement."""

    def check(self, key: str) -> None:
        """Refuse a table of no searches."""
        if not self.searches:
            raise ConfigurationError(f"{key}.searches", self.searches, "must be a list of folders of finished searches")


@dataclass
class DeviceConfig:
    """A kind of device that can be rented. Intervals are ``[low, likely, high]``."""

    peak_teraflops: Annotated[float, Gt(0)] = 0.0
    """Dense matrix products at the precision of the training, as its data sheet has them."""

    utilisation: Annotated[list[float], _THREE_SHARES] = field(default_factory=list)
    """Share of that peak that training reaches (MFU); an assumption where nobody measured it."""

    price: Annotated[list[float], _THREE] = field(default_factory=list)
    """For one hour of one device, in ``fleet.currency``; an assumption, to be replaced by your own."""

    source: str = ""
    """Where these numbers come from."""


@dataclass
class FleetConfig:
    """What `bort benchmark cost` reckons with, beside search space, strategy, loss, training and budget."""

    teacher: Annotated[str, shape_or()] | None = None
    """Its shape, such as ``24-16-1024-4096``; by default that of the configured teacher, which has to be at
    hand then.
    """

    vocabulary: Annotated[int, Ge(16)] = 50_265
    """Rows of the vocabulary, where ``teacher`` is given."""

    student: Annotated[str, shape_or()] = "4-8-1024-768"
    """The student that is distilled in the end."""

    candidates: Annotated[int, Ge(1)] | None = None
    """Candidates that the search trains; by default as many as strategy ``ose`` takes from the space."""

    search_devices: Annotated[int, Ge(1)] = 16
    """Devices at the search at a time."""

    distill_devices: Annotated[int, Ge(1)] = 8
    """Devices that share the steps of the final distillation."""

    engine_efficiency: Annotated[float, Interval(gt=0, le=1)] = 0.95
    """Share of the time of the search's devices in which they train; `bort benchmark workers` measures it."""

    distill_efficiency: Annotated[list[float], _THREE_SHARES] = field(default_factory=lambda: [0.75, 0.9, 0.97])
    """Share that is left where several devices share each step, ``[low, likely, high]``; an assumption."""

    candidate_seconds: Annotated[list[float], _THREE] = field(default_factory=lambda: [1.0, 15.0, 60.0])
    """Seconds that each candidate takes beside its steps, to start and for its held-out figures, ``[low,
    likely, high]``.
    """

    currency: str = "USD"
    """Of the prices."""

    devices: dict[str, DeviceConfig] = field(default_factory=dict)
    """The kinds of devices, by name."""

    measured: str | None = None
    """A ``result.json`` of `bort benchmark distill`, whose fastest loop is added as a device that was
    measured.
    """


@dataclass
class ScalingConfig:
    """What `bort benchmark workers` measures: how much of their time workers spend training, on candidates that only wait."""

    engines: Annotated[list[Annotated[str, OneOf("local", "ray")]], MinLen(1)] = field(default_factory=lambda: ["local", "ray"])
    """Any of ``local`` and ``ray``; ray starts a cluster of this machine alone, with as many processors as
    workers.
    """

    workers: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=lambda: [1, 2, 4])
    """Numbers of workers."""

    candidates: Annotated[int, Ge(1)] = 32
    """Candidates of each search."""

    seconds: Annotated[float, Gt(0)] = 1.0
    """Time that each of them waits, in two rungs."""

    rounds: Annotated[int, Ge(1)] = 3
    """Searches of each engine and number of workers."""

    def check(self, key: str) -> None:
        """Refuse fewer candidates than workers."""
        if self.candidates < max(self.workers):
            accepted = f"must be an integer >= {max(self.workers)}, one candidate for each worker"
            raise ConfigurationError(f"{key}.candidates", self.candidates, accepted)
