"""The strategies: what to train next, given all that the study knows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bort.search.config import StrategyConfig
from bort.search.problem import Candidate
from bort.search.study import Entry, Ledger

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Climb:
    """Train a candidate that was begun to its next rung."""

    entry: Entry
    steps: int


@dataclass(frozen=True)
class Begin:
    """Begin a candidate: the one named, or what the sampler proposes."""

    candidate: Candidate | None = None


class Wait:
    """Nothing can be decided before other workers are further."""


class Done:
    """The search is over."""


Decision = Climb | Begin | Wait | Done


class Strategy(Protocol):
    """Decides what is trained next, from what the study knows and nothing else, so that any worker can take over at any moment."""

    @property
    def directions(self) -> list[str]:
        """The study's objectives: ``["maximize"]`` for W, or three times ``minimize`` for p, i and e."""

    @property
    def budget(self) -> float:
        """Training steps that the search takes at most."""

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Returns the Optuna sampler that proposes new candidates."""

    def decide(self, ledger: Ledger) -> Decision:
        """Returns what to do next."""

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """Ends what is left unfinished, once the search is over, and returns what the certificate says of the strategy."""


def describe(config: StrategyConfig, seed: int) -> dict[str, Any]:
    """Returns the strategy's part of a study's identity."""
    return {"seed": seed, **{f"strategy.{key}": value for key, value in asdict(config).items()}}


def climb_or_wait(ledger: Ledger) -> Decision | None:
    """Returns the next rung of the first begun candidate that nobody is at; ``None`` where every begun candidate has ended."""
    for entry in ledger.running.values():
        if not ledger.busy(entry):
            return Climb(entry, ledger.rungs[len(entry.curve)])
    return Wait() if ledger.running else None
