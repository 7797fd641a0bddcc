"""What can be said of a search benchmark: how it is replayed, and what it is put together from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError

STRATEGIES = ("bound", "ose", "random", "tpe", "nsga2")

#: Tables that a strategy is replayed on: one drawn for each seed from the measured ones, or the one that ``error`` names itself.
TABLES = ("drawn", "measured")


@dataclass
class ReplayConfig:
    """How strategies are compared on a table of errors.

    Args:
        seeds: Replays of each strategy at each budget; the seeds are 0, 1, ….
        budgets: Training steps that a strategy may spend, as shares of what the exhaustive search costs.
        strategies: Any of ``bound``, ``ose``, ``random``, ``tpe`` and ``nsga2``; the others are compared with the first.
        tables: Any of ``drawn`` and ``measured``.
        confidence: Level of the intervals.
        resamples: Bootstrap resamples of the intervals of means.
    """

    seeds: int = 200
    budgets: list[float] = field(default_factory=lambda: [0.02, 0.05, 0.1, 0.2, 0.5])
    strategies: list[str] = field(default_factory=lambda: list(STRATEGIES))
    tables: list[str] = field(default_factory=lambda: list(TABLES))
    confidence: float = 0.95
    resamples: int = 2000

    def check(self) -> None:
        """Refuses settings that cannot be replayed.

        Raises:
            ConfigurationError: The first setting that cannot be used.
        """
        if self.seeds < 1:
            raise ConfigurationError("replay.seeds", self.seeds, "a whole number of at least 1 is needed")
        ascending = self.budgets == sorted(set(self.budgets)) and all(0 < budget <= 1 for budget in self.budgets)
        if not self.budgets or not ascending:
            raise ConfigurationError("replay.budgets", self.budgets, "ascending shares above 0 and up to 1 are needed")
        for key, known in (("strategies", STRATEGIES), ("tables", TABLES)):
            values = getattr(self, key)
            if not values or len(set(values)) < len(values) or not set(values) <= set(known):
                raise ConfigurationError(f"replay.{key}", values, f"any of {', '.join(known)} are accepted, each once")
        if not 0 < self.confidence < 1:
            raise ConfigurationError("replay.confidence", self.confidence, "a number between 0 and 1 is needed")
        if self.resamples < 100:
            raise ConfigurationError("replay.resamples", self.resamples, "a whole number of at least 100 is needed")


@dataclass
class CollectConfig:
    """What a table for replays is put together from.

    Args:
        searches: Folders of finished searches that trained; together they hold each architecture once for each seed.
        table: A CSV file that the table is also written to, with ``manifest.json`` beside it; null for the stage's folder alone.
        latency: Whether the latency of every architecture is measured now and joins the table as the column ``latency_ms``: the
            median of one forward pass of the encoder in PyTorch on the processor, with one thread, one sequence and 128 tokens.
        repeats: Rounds of that measurement.
    """

    searches: list[str] = field(default_factory=list)
    table: str | None = None
    latency: bool = False
    repeats: int = 50

    def check(self) -> None:
        """Refuses settings that cannot be collected.

        Raises:
            ConfigurationError: There are no searches, one is named twice, or there are too few rounds.
        """
        if not self.searches or len(set(self.searches)) < len(self.searches):
            raise ConfigurationError("collect.searches", self.searches, "folders of finished searches are needed, each once")
        if self.table is not None and not self.table.endswith(".csv"):
            raise ConfigurationError("collect.table", self.table, "the name of a .csv file, or null, is needed")
        if self.repeats < 5:
            raise ConfigurationError("collect.repeats", self.repeats, "a whole number of at least 5 is needed")


@dataclass
class DeviceConfig:
    """A kind of device that can be rented. Intervals are ``[low, likely, high]``.

    Args:
        peak_teraflops: Dense matrix products at the precision of the training, as its data sheet has them.
        utilisation: Share of that peak that training reaches (MFU); an assumption where nobody measured it.
        price: For one hour of one device, in ``fleet.currency``; an assumption, to be replaced by your own.
        source: Where these numbers come from.
    """

    peak_teraflops: float = 0.0
    utilisation: list[float] = field(default_factory=list)
    price: list[float] = field(default_factory=list)
    source: str = ""


@dataclass
class FleetConfig:
    """What `bort benchmark cost` reckons with, beside search space, strategy, loss, training and budget.

    Args:
        teacher: Its shape, such as ``24-16-1024-4096``; by default that of the configured teacher, which has to be at hand then.
        vocabulary: Rows of the vocabulary, where ``teacher`` is given.
        student: The student that is distilled in the end.
        candidates: Candidates that the search trains; by default as many as strategy ``ose`` takes from the space.
        search_devices: Devices at the search at a time.
        distill_devices: Devices that share the steps of the final distillation.
        engine_efficiency: Share of the time of the search's devices in which they train; `bort benchmark workers` measures it.
        distill_efficiency: Share that is left where several devices share each step, ``[low, likely, high]``; an assumption.
        candidate_seconds: Seconds that each candidate takes beside its steps, to start and for its held-out figures, ``[low,
            likely, high]``.
        currency: Of the prices.
        devices: The kinds of devices, by name.
        measured: A ``result.json`` of `bort benchmark distill`, whose fastest loop is added as a device that was measured.
    """

    teacher: str | None = None
    vocabulary: int = 50_265
    student: str = "4-8-1024-768"
    candidates: int | None = None
    search_devices: int = 16
    distill_devices: int = 8
    engine_efficiency: float = 0.95
    distill_efficiency: list[float] = field(default_factory=lambda: [0.75, 0.9, 0.97])
    candidate_seconds: list[float] = field(default_factory=lambda: [1.0, 15.0, 60.0])
    currency: str = "USD"
    devices: dict[str, DeviceConfig] = field(default_factory=dict)
    measured: str | None = None

    def check(self) -> None:
        """Refuses settings that nothing can be reckoned with.

        Raises:
            ConfigurationError: A shape cannot be read, a number is out of its range, or an interval is none.
        """
        for name, shape in (("teacher", self.teacher), ("student", self.student)):
            if shape is not None:
                try:
                    Architecture.parse(shape)
                except BortError as error:
                    raise ConfigurationError(f"fleet.{name}", shape, str(error).rstrip(".")) from error
        for name, least in (("vocabulary", 16), ("search_devices", 1), ("distill_devices", 1), ("candidates", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"fleet.{name}", value, f"a whole number of at least {least} is needed")
        if not 0 < self.engine_efficiency <= 1:
            raise ConfigurationError("fleet.engine_efficiency", self.engine_efficiency, "a number above 0 and at most 1 is needed")
        _check_interval("fleet.distill_efficiency", self.distill_efficiency, 1.0)
        _check_interval("fleet.candidate_seconds", self.candidate_seconds, math.inf)
        for name, device in self.devices.items():
            if not 0 < device.peak_teraflops < math.inf:
                raise ConfigurationError(
                    f"fleet.devices.{name}.peak_teraflops", device.peak_teraflops, "a number above 0 is needed"
                )
            _check_interval(f"fleet.devices.{name}.utilisation", device.utilisation, 1.0)
            _check_interval(f"fleet.devices.{name}.price", device.price, math.inf)


def _check_interval(key: str, values: list[float], most: float) -> None:
    if len(values) != 3 or sorted(values) != list(values) or values[0] <= 0 or not values[2] <= most or math.isinf(values[2]):
        limit = "" if math.isinf(most) else f", and at most {most:g}"
        raise ConfigurationError(key, values, f"three ascending numbers [low, likely, high] above 0{limit} are needed")


@dataclass
class ScalingConfig:
    """What `bort benchmark workers` measures: how much of their time workers spend training, on candidates that only wait.

    Args:
        engines: Any of ``local`` and ``ray``; ray starts a cluster of this machine alone, with as many processors as workers.
        workers: Numbers of workers.
        candidates: Candidates of each search.
        seconds: Time that each of them waits, in two rungs.
        rounds: Searches of each engine and number of workers.
    """

    engines: list[str] = field(default_factory=lambda: ["local", "ray"])
    workers: list[int] = field(default_factory=lambda: [1, 2, 4])
    candidates: int = 32
    seconds: float = 1.0
    rounds: int = 3

    def check(self) -> None:
        """Refuses settings that cannot be measured.

        Raises:
            ConfigurationError: An engine is not known, or a number is out of its range.
        """
        for name in self.engines:
            if name not in ("local", "ray"):
                raise ConfigurationError("scaling.engines", name, "any of local and ray are accepted")
        if not self.engines or not self.workers or min(self.workers) < 1:
            raise ConfigurationError("scaling.workers", self.workers, "whole numbers of at least 1 are needed, and an engine")
        if self.candidates < max(self.workers):
            raise ConfigurationError("scaling.candidates", self.candidates, f"at least one for each of {max(self.workers)} workers")
        if not self.seconds > 0:
            raise ConfigurationError("scaling.seconds", self.seconds, "a number above 0 is needed")
        if self.rounds < 1:
            raise ConfigurationError("scaling.rounds", self.rounds, "a whole number of at least 1 is needed")
