"""What a strategy can decide to do next."""

from __future__ import annotations

from dataclasses import dataclass

from bort.search.ledger import Entry
from bort.search.problem import Candidate


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
