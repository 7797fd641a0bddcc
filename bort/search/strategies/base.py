"""The interface of a strategy: what to train next, given the state of the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bort.search.problem import Candidate
from bort.search.study import Entry, Ledger

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Promote:
    """Train a started candidate to its next rung, ``steps`` training steps in all."""

    entry: Entry
    steps: int


@dataclass(frozen=True)
class Start:
    """Start a candidate: the given one, or the sampler's proposal if ``None``."""

    candidate: Candidate | None = None


@dataclass(frozen=True)
class Wait:
    """Nothing can be decided before other workers have finished more."""


@dataclass(frozen=True)
class Stop:
    """The search is over."""


Decision = Promote | Start | Wait | Stop


class Strategy(Protocol):
    """Decides what is trained next, from the study's state alone, so that any worker can take over at any moment."""

    @property
    def directions(self) -> list[str]:
        """The study's objectives: ``["maximize"]`` for W, or three times ``minimize`` for p, i and e."""

    @property
    def budget(self) -> float:
        """Upper bound of the search's training steps."""

    def sampler(self, ledger: Ledger) -> optuna.samplers.BaseSampler:
        """Return the Optuna sampler that proposes new candidates."""

    def decide(self, ledger: Ledger) -> Decision:
        """Return what to do next."""

    def finish(self, ledger: Ledger) -> dict[str, Any]:
        """End what is left unfinished once the search is over, and return the strategy's part of the certificate."""


def promote_or_wait(ledger: Ledger) -> Promote | Wait | None:
    """Return the next rung of the first started candidate that no worker trains; ``None`` if every started one has ended."""
    for entry in ledger.running.values():
        if not ledger.busy(entry):
            return Promote(entry, ledger.rungs[len(entry.curve)])
    return Wait() if ledger.running else None
