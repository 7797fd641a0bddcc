"""What a fleet is assumed to be: its devices, how well they are used, and what an hour of one costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError


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
