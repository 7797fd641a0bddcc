"""The tracked run of each trial of a search over Θ, so that trials stand beside each other in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bort.events import Observer
from bort.tracking import Recording, TrackedRun


def watched(parent: TrackedRun, onward: Observer) -> Callable[[int, Mapping[str, Any]], AbstractContextManager[Observer]]:
    """Returns what opens a child run for a trial and records θ and the trial's curves in it.

    Args:
        parent: The run of the search.
        onward: The observer that a person sees.
    """

    @contextmanager
    def opened(number: int, theta: Mapping[str, Any]) -> Iterator[Observer]:
        with parent.child(f"trial {number}", f"{parent.key}/trial{number}", tags={"bort.trial": str(number)}) as child:
            child.params(theta)
            yield Recording(child, onward)

    return opened
