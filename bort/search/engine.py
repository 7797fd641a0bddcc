"""Where candidates are trained: in this process, or wherever an engine places them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bort.architecture import Architecture
from bort.candidate import Estimator, Evaluation, Theta
from bort.errors import BortError
from bort.locks import exclusive
from bort.observer import Observer


@dataclass(frozen=True)
class Job:
    """One rung of one candidate.

    Args:
        number: The candidate's trial in the study.
        architecture: Its shape.
        theta: Its θ.
        steps: The rung: training steps in all.
        directory: The candidate's own directory.
    """

    number: int
    architecture: Architecture
    theta: Theta
    steps: int
    directory: Path


class Engine(Protocol):
    """Trains candidates, as many at a time as it has room for. What it holds is only in hand: the study's truth is its storage."""

    @property
    def slots(self) -> int:
        """Jobs that may be in hand at once."""

    def start(self, job: Job) -> None:
        """Takes a job in hand."""

    def ended(self, seconds: float) -> Sequence[tuple[Job, Evaluation]]:
        """Waits until a job has ended, and returns those that have, each once.

        Args:
            seconds: The longest wait; an engine that trains in this process returns when it has trained.

        Raises:
            BortError: A job could not be trained.
        """

    def close(self) -> None:
        """Gives up what is in hand, and lets go of what the engine holds."""


class LocalEngine:
    """Trains in this process, one candidate at a time. More processes at the same study make more of it.

    Args:
        estimator: Tells the errors.
        observer: Told of progress and metrics.
    """

    slots = 1

    def __init__(self, estimator: Estimator, observer: Observer) -> None:
        self._estimator, self._observer = estimator, observer
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        """Takes a job in hand."""
        self._job = job

    def ended(self, seconds: float) -> Sequence[tuple[Job, Evaluation]]:
        """Trains what is in hand."""
        job, self._job = self._job, None
        return [(job, train(self._estimator, job, self._observer))] if job else []

    def close(self) -> None:
        """Nothing is held."""


def train(estimator: Estimator, job: Job, observer: Observer) -> Evaluation:
    """Trains a candidate to a rung, here and now.

    Raises:
        BortError: A file could not be read or written.
    """
    alone = nullcontext() if getattr(estimator, "immediate", False) else exclusive(job.directory)
    try:
        # A worker that was cut off from the study may still be at it.
        with alone:
            return estimator.evaluate(job.architecture, job.theta, job.steps, job.directory, observer)
    except OSError as error:
        raise untrained(job, str(error)) from error


def untrained(job: Job, reason: str) -> BortError:
    """Returns the error that says that a job could not be done."""
    return BortError(
        f"{job.architecture} could not be trained to {job.steps} steps ({reason}). Every error found so far is kept: mend it, and "
        "the same command goes on from there."
    )
