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
    """Trains candidates, up to ``slots`` at a time. It stores nothing: the study's storage is the only truth."""

    @property
    def slots(self) -> int:
        """Jobs that may be submitted and not collected at once."""

    def submit(self, job: Job) -> None:
        """Train a job, here and now or elsewhere; its evaluation, or its error, comes from :meth:`collect`."""

    def collect(self, timeout: float) -> Sequence[tuple[Job, Evaluation]]:
        """Return the finished jobs with their evaluations, each once; wait for the first of them.

        Args:
            timeout: Longest wait in seconds.

        Raises:
            BortError: A job could not be trained.
        """

    def close(self) -> None:
        """Cancel what was not collected, and release the engine's resources."""


class LocalEngine:
    """Trains in this process, one candidate at a time. Further processes on the same study add workers.

    Args:
        estimator: Evaluates the candidates.
        observer: Receives progress and metrics.
    """

    slots = 1

    def __init__(self, estimator: Estimator, observer: Observer) -> None:
        self._estimator, self._observer = estimator, observer
        self._finished: list[tuple[Job, Evaluation | Exception]] = []

    def submit(self, job: Job) -> None:
        """Train a job, and return when it has finished."""
        try:
            self._finished.append((job, train(self._estimator, job, self._observer)))
        except Exception as error:
            self._finished.append((job, error))

    def collect(self, timeout: float) -> Sequence[tuple[Job, Evaluation]]:
        """Return the finished jobs, without waiting."""
        finished, self._finished = self._finished, []
        evaluations = []
        for job, result in finished:
            if isinstance(result, Exception):
                raise result
            evaluations.append((job, result))
        return evaluations

    def close(self) -> None:
        """Do nothing: no resource is held."""


def train(estimator: Estimator, job: Job, observer: Observer) -> Evaluation:
    """Train a candidate to a rung, here and now.

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
    """Return the error of a job that could not be trained."""
    return BortError(
        f"{job.architecture} could not be trained to {job.steps} steps ({reason}). Every error found so far is kept: mend it, and "
        "the same command goes on from there."
    )
