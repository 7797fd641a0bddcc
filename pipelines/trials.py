"""The fine-tuning of one encoder as a tracked run of its own, and of each trial of its search over Θ as one below it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.events import Observer
from bort.record import exclusive
from bort.tracking import Recording, TrackedRun
from pipelines.agora import draw_ledgers, sentences_of, with_teacher
from pipelines.stage import Run
from pipelines.workers import share

if TYPE_CHECKING:
    from bort.tasks import Task


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


def tune(run: Run, task: Task, role: str, directory: Path, *, first: bool) -> dict[str, Any]:
    """Fine-tunes one encoder, recorded as a run of its own; the first one's model lies in the stage's own folder."""
    from bort.finetuning import finetune
    from bort.finetuning.agora import finetune_agora

    config = run.config
    tracked = run.tracked.child(f"{config.task.name} {role}", f"{run.tracked.key}/{role}")
    place = run.directory if first else run.directory / role
    train: Callable[..., dict[str, Any]] = finetune
    if config.agora.enabled:
        train = functools.partial(finetune_agora, agora=with_teacher(config), sentences=sentences_of(config))
    watch: dict[str, Any] = {} if config.agora.enabled else {"watch": watched(tracked, run.console)}
    with exclusive(place, wait=config.agora.enabled, name=".tune"):
        result: dict[str, Any] = train(
            directory,
            task,
            config.finetuning.for_model(role),
            directory=place,
            seed=config.seed,
            impl=share(config.impl),
            observer=Recording(tracked, run.console),
            name=role,
            **watch,
        )
    if config.agora.enabled:
        draw_ledgers(run, role, result, place)
    tracked.params({"task": task.name, "encoder": role, **result["theta"]})
    tracked.metrics({f"heldout/{name}": score["mean"] for name, score in result["metrics"].items()})
    tracked.finish()
    return result
