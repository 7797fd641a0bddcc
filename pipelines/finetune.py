"""`bort finetune`: fine-tunes encoders on a task; choices on steering data, scores on held-out data, over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import ConfigurationError
from bort.locks import exclusive
from bort.observer import Observer
from bort.settings import check_settings
from bort.tracking.tracker import Recording, TrackedRun

from . import tables
from .agora import draw_ledgers, sentence_sources, sentences_of, with_teacher
from .app.main import entry
from .baselines import latency_of, score_baselines
from .distill import write_untrained
from .engine.inputs import model_sources, task_sources
from .engine.schema import Config
from .engine.stage import Run, Stage
from .engine.workers import beside, share

if TYPE_CHECKING:
    from bort.tasks.task import Task


#: The student's controls that no step trained, with their initialization; ``None`` for the student's.
UNTRAINED = {"start": None, "random": "random"}


def encoders(run: Run) -> dict[str, Path]:
    """Return the directories of the encoders that ``finetune.models`` names, by role and in that order.

    Raises:
        ConfigurationError: The distillation made no such model.
    """
    config, found = run.config, {}
    for role in config.finetune.models:
        if role == "teacher":
            found[role] = Path(config.teacher.path)
        elif role == "student" and config.student.path is not None:
            found[role] = Path(config.student.path)
        elif role in UNTRAINED:
            found[role] = write_untrained(run, role, UNTRAINED[role])
        else:
            distilled = run.inputs["distill"] if role == "student" else run.inputs["distill"].get("twin")
            if distilled is None:
                raise ConfigurationError(
                    "finetune.models", role, "another model, as the twin is trained only with distill.twin=true"
                )
            found[role] = Path(distilled["student"])
    return found


def watched(parent: TrackedRun, onward: Observer) -> Callable[[int, Mapping[str, Any]], AbstractContextManager[Observer]]:
    """Return what opens a child run for a trial and records θ and the trial's curves in it.

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
    """Fine-tune one encoder, recorded as a child run; the first one's model lies in the stage's own folder."""
    from bort.finetuning.agora.runs import finetune_agora
    from bort.finetuning.agora.setup import AgoraSetup
    from bort.finetuning.runs import finetune
    from bort.finetuning.setup import FinetuningSetup

    config = run.config
    tracked = run.tracked.child(f"{config.task.name} {role}", f"{run.tracked.key}/{role}")
    place = run.directory if first else run.directory / role
    observer = Recording(tracked, run.console)
    setup = FinetuningSetup(directory, task, config.finetuning.for_model(role), config.seed, share(config.impl))
    with exclusive(place, wait=config.agora.enabled, name=".tune"):
        if config.agora.enabled:
            agora = AgoraSetup(setup, with_teacher(config), sentences_of(config))
            result = finetune_agora(agora, place, observer=observer, name=role)
        else:
            result = finetune(setup, place, observer=observer, name=role, watch=watched(tracked, run.console))
    if config.agora.enabled:
        draw_ledgers(run, role, result, place)
    tracked.params({"task": task.name, "encoder": role, **result["theta"]})
    tracked.metrics({f"heldout/{name}": score["mean"] for name, score in result["metrics"].items()})
    tracked.finish()
    return result


def work(run: Run) -> dict[str, Any]:
    """Fine-tune each encoder of ``finetune.models``; the model of the first becomes the stage's."""
    from bort.baselines.comparison import compare, gains
    from bort.tasks.load import load_task

    config, task = run.config, load_task(run.config.task)
    run.tracked.dataset(task.name, task.digest, config.task.path or "", task.record()["examples"], context="fine-tuning")
    models: dict[str, dict[str, Any]] = {}
    found = encoders(run)
    # Workers share plain fine-tuning; of Agora one would wait for the other.
    with nullcontext() if config.agora.enabled else beside(run, "finetune"):
        for role, directory in found.items():
            models[role] = tune(run, task, role, directory, first=not models)
    for model in models.values():
        model["latency_ms"] = latency_of(model["model"], task)
    baselines = score_baselines(run, task, found, models)
    result = {
        **next(iter(models.values())),
        "models": models,
        "gains": gains(models, config.finetuning.confidence),
        "baselines": baselines,
        "comparison": compare(task.primary, models, baselines),
    }
    run.tracked.metrics(
        {f"gains/{name}/{metric}": gain["mean"] for name, found in result["gains"].items() for metric, gain in found.items()}
    )
    return result


def check(config: Config) -> None:
    """Refuse a task or settings that cannot be used, before any model is trained for it."""
    from bort.finetuning.agora.config import check_agora
    from bort.tasks.load import load_task

    check_settings(config.finetuning, "finetuning")
    check_settings(config.impl, "impl")
    check_settings(config.student, "student")
    task = load_task(config.task)
    if config.agora.enabled:
        check_agora(task, config.agora, config.finetuning)


def needs(config: Config) -> tuple[str, ...]:
    """The distillation, unless every encoder is at hand without it."""
    made_here = {"student", "twin", *UNTRAINED} & set(config.finetune.models)
    return ("distill",) if made_here and config.student.path is None else ()


STAGE = Stage(
    name="finetune",
    work=work,
    settings=lambda config: (
        "task",
        "finetuning",
        *(["agora"] if config.agora.enabled else []),
        "finetune",
        "student.path",
        "seed",
    ),
    needs=needs,
    sources=lambda config: {
        **task_sources(config),
        **model_sources("student", config.student.path),
        **model_sources("finetuning.teacher", config.finetuning.teacher),
        **sentence_sources(config),
    },
    show=tables.finetune,
    headline=tables.score_headline,
    check=check,
    shared=True,
)

main = entry("finetune")

if __name__ == "__main__":
    main()
