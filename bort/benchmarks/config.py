"""Settings of the search benchmarks: replays, tables, fleets and workers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen

from bort.errors import ConfigurationError
from bort.search.strategies.config import replayable
from bort.settings import DISTINCT, OneOf, Rule, shape_or

#: Tables of a replay: one drawn for each seed from the measured ones, or the table of ``error`` itself.
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
    """The comparison of strategies on a table of errors."""

    seeds: Annotated[int, Ge(1)] = 200
    """Replays of each strategy at each budget; the seeds are 0, 1, …."""

    budgets: _Budgets = field(default_factory=lambda: [0.02, 0.05, 0.1, 0.2, 0.5])
    """Training steps that a strategy may spend, as shares of the cost of the exhaustive search."""

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
            accepted = f"a list of strings, each entry one of {', '.join(replayable())}"
            raise ConfigurationError(f"{key}.strategies", self.strategies, accepted)


@dataclass
class CollectConfig:
    """The searches that a table for replays is collected from."""

    searches: Annotated[list[str], DISTINCT] = field(default_factory=list)
    """Folders of finished searches that trained; together they contain each architecture once for each seed.
    """

    table: Annotated[str, _CSV] | None = None
    """A CSV file for a copy of the table, with ``manifest.json`` beside it; ``null`` for the stage's folder
    alone.
    """

    latency: bool = False
    """Whether the latency of every architecture is measured and becomes the column ``latency_ms``: the median
    of one forward pass of the encoder in PyTorch on the processor, with one thread, one sequence and 128
    tokens.
    """

    repeats: Annotated[int, Ge(5)] = 50
    """Rounds of that measurement."""

    def check(self, key: str) -> None:
        """Refuse a table of no searches."""
        if not self.searches:
            raise ConfigurationError(f"{key}.searches", self.searches, "a list of folders of finished searches")


@dataclass
class DeviceConfig:
    """A kind of device for rent. Intervals are ``[low, likely, high]``."""

    peak_teraflops: Annotated[float, Gt(0)] = 0.0
    """Peak of dense matrix products at the precision of the training, from the data sheet."""

    utilisation: Annotated[list[float], _THREE_SHARES] = field(default_factory=list)
    """Share of that peak that training reaches (MFU); an assumption unless measured."""

    price: Annotated[list[float], _THREE] = field(default_factory=list)
    """Price of one device for one hour, in ``fleet.currency``; an assumption, to be replaced by your own."""

    source: str = ""
    """Source of these numbers."""


@dataclass
class FleetConfig:
    """Assumptions of `bort benchmark cost`, beside search space, strategy, loss, training and budget."""

    teacher: Annotated[str, shape_or()] | None = None
    """Shape of the teacher, such as ``24-16-1024-4096``; ``null`` for that of the configured teacher, which
    must then be available.
    """

    vocabulary: Annotated[int, Ge(16)] = 50_265
    """Vocabulary size, if ``teacher`` is set."""

    student: Annotated[str, shape_or()] = "4-8-1024-768"
    """Shape of the final student."""

    candidates: Annotated[int, Ge(1)] | None = None
    """Candidates that the search trains; ``null`` for the number that strategy ``ose`` takes from the space.
    """

    search_devices: Annotated[int, Ge(1)] = 16
    """Devices that the search uses at a time."""

    distill_devices: Annotated[int, Ge(1)] = 8
    """Devices that share the steps of the final distillation."""

    engine_efficiency: Annotated[float, Interval(gt=0, le=1)] = 0.95
    """Share of their time that the search's devices spend training; `bort benchmark workers` measures it.
    Four workers lost 0.34 s for each candidate on a machine with ten times its capacity to do
    (docs/fleet.md), below 1 % of a candidate that takes minutes; the rest covers the last candidates, which
    do not end together.
    """

    distill_efficiency: Annotated[list[float], _THREE_SHARES] = field(default_factory=lambda: [0.75, 0.9, 0.97])
    """Share of the speed that remains if several devices share each step, ``[low, likely, high]``: gradients
    of 56 M parameters over links of one machine; an assumption.
    """

    candidate_seconds: Annotated[list[float], _THREE] = field(default_factory=lambda: [1.0, 15.0, 60.0])
    """Seconds of each candidate beside its steps, for its start and its held-out metrics, ``[low, likely,
    high]``. 1 s was measured for the demo's candidates; on GPUs the start of CUDA and held-out metrics of a
    large vocabulary are added.
    """

    currency: str = "USD"
    """Currency of the prices."""

    devices: dict[str, DeviceConfig] = field(default_factory=dict)
    """The kinds of devices, by name."""

    measured: str | None = None
    """A ``result.json`` of `bort benchmark distill`, whose fastest loop is added as a measured device."""


@dataclass
class ScalingConfig:
    """The measurement of `bort benchmark workers`: the share of time that workers spend training, on candidates that only wait."""

    engines: Annotated[list[Annotated[str, OneOf("local", "ray")]], MinLen(1)] = field(default_factory=lambda: ["local", "ray"])
    """Any of ``local`` and ``ray``; ray starts a cluster of this machine alone, with as many processors as
    workers.
    """

    workers: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=lambda: [1, 2, 4])
    """Numbers of workers."""

    candidates: Annotated[int, Ge(1)] = 32
    """Candidates of each search."""

    seconds: Annotated[float, Gt(0)] = 1.0
    """Seconds that each candidate waits, in two rungs."""

    rounds: Annotated[int, Ge(1)] = 3
    """Searches of each engine and number of workers."""

    def check(self, key: str) -> None:
        """Refuse fewer candidates than workers."""
        if self.candidates < max(self.workers):
            accepted = f"an integer >= {max(self.workers)}, one candidate for each worker"
            raise ConfigurationError(f"{key}.candidates", self.candidates, accepted)
