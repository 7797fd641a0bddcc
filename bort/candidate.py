"""What a search asks of whoever trains its candidates, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bort.architecture import Architecture
from bort.files import digest
from bort.observer import Observer

#: One hyperparameter set θ of Θ: training settings that replace the defaults, by name.
Theta = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The error of one candidate after some training, and what it cost.

    Args:
        steps: Training steps behind the error, all of the candidate's earlier rungs included.
        error: e, the held-out error; NaN or infinite where training diverged.
        tokens: Tokens trained on to get here from the candidate's previous rung.
        processor_seconds: Processor time spent to get here from the previous rung.
        seconds: Wall time spent to get here from the previous rung.
        checkpoint: Directory of the candidate's weights in transformers layout, where there are any.
        metrics: Further held-out figures.
    """

    steps: int
    error: float
    tokens: int = 0
    processor_seconds: float = 0.0
    seconds: float = 0.0
    checkpoint: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SharedCost:
    """What an estimator has spent on all candidates together.

    Args:
        steps: Training steps; a step that trains several networks counts as that many.
        tokens: Tokens read, once for each network.
        processor_seconds: Processor time.
        seconds: Wall time.
    """

    steps: int
    tokens: int
    processor_seconds: float
    seconds: float


class Estimator(Protocol):
    """Tells the error of an architecture after a number of training steps.

    An estimator whose answers come at once may say so with an attribute ``immediate``, and one that trains something for all
    candidates together tells its cost with a method ``shared_cost() -> SharedCost``.
    """

    @property
    def name(self) -> str:
        """The name it has in configuration, e.g. ``distill``."""

    @property
    def rungs(self) -> Sequence[int]:
        """The step counts at which an error can be asked for, ascending; the last is the fullest error at hand."""

    @property
    def fingerprint(self) -> str:
        """A digest of everything that fixes the answers: teacher, corpus, loss, seed and the like."""

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        """Returns the error of ``architecture`` trained with ``theta`` for ``steps`` steps in all.

        Training goes on from what ``directory`` holds of this candidate, so that climbing a rung costs the difference.

        Args:
            architecture: The candidate's shape.
            theta: Settings that replace the default ones for this candidate.
            steps: One of :attr:`rungs`.
            directory: A directory of the candidate's own, kept between calls.
            observer: Told of progress and metrics.
        """


def fingerprint(architecture: Architecture, theta: Theta) -> str:
    """Returns the digest by which a candidate is known again: the same shape and θ are the same candidate."""
    return digest({"architecture": str(architecture), "theta": dict(theta)})[:16]
