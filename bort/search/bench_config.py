"""What can be said of a search benchmark: how it is replayed, and what it is put together from."""

from __future__ import annotations

from dataclasses import dataclass, field

from bort.errors import ConfigurationError

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
