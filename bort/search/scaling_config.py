"""How the engines of a search are compared."""

from __future__ import annotations

from dataclasses import dataclass, field

from bort.errors import ConfigurationError


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
