"""`bort finetune`: fine-tunes encoders on a task; choices on steering data, scores on held-out data, over several seeds."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from pipelines import tables
from pipelines.agora import sentence_sources
from pipelines.app import entry
from pipelines.inputs import model_sources, task_sources
from pipelines.models import encoders
from pipelines.schema import Config
from pipelines.stage import Run, Stage
from pipelines.trials import tune
from pipelines.workers import beside


def work(run: Run) -> dict[str, Any]:
    """Fine-tunes each encoder that was asked for; the first is the one whose model is kept as the stage's own."""
    from bort.tasks import load_task

    config, task = run.config, load_task(run.config.task)
    run.tracked.dataset(task.name, task.digest, config.task.path or "", task.record()["examples"], context="fine-tuning")
    models: dict[str, dict[str, Any]] = {}
    # Workers share plain fine-tuning; of Agora one would wait for the other.
    with nullcontext() if config.agora.enabled else beside(run, "finetune"):
        for role, directory in encoders(run).items():
            models[role] = tune(run, task, role, directory, first=not models)
    return {**next(iter(models.values())), "models": models}


def check(config: Config) -> None:
    """Refuses a task or settings that cannot be used, before any model is trained for it."""
    from bort.finetuning.agora.config import check_agora
    from bort.tasks import load_task

    config.finetuning.check()
    config.impl.check()
    config.student.check()
    task = load_task(config.task)
    if config.agora.enabled:
        check_agora(task, config.agora, config.finetuning)


def needs(config: Config) -> tuple[str, ...]:
    """The distillation, unless every encoder is at hand without it."""
    made_here = {"student", "twin"} & set(config.finetune.models)
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
