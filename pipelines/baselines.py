"""The baselines beside the scores of fine-tuned models: what they read, and what they say of the student."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engine.schema import Config
from .engine.stage import Run

if TYPE_CHECKING:
    from bort.tasks.task import Task


def encoder_path(config: Config, encoders: Mapping[str, Path]) -> str:
    """Return the encoder that baselines read: the teacher, or a user's own encoder if it was fine-tuned without the teacher."""
    foreign = config.student.path is not None and "teacher" not in encoders
    return str(next(iter(encoders.values()))) if foreign else config.teacher.path


def score_baselines(run: Run, task: Task, encoders: Mapping[str, Path], models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Score the baselines that ``finetuning.baselines`` names and record their metrics with the stage's run.

    Args:
        run: The stage's run.
        task: The task.
        encoders: The encoders that were fine-tuned, by role.
        models: Their results, by role.
    """
    from bort.baselines.run import BaselineSources, run_baselines
    from bort.teacher.config import TeacherConfig
    from bort.teacher.features import TextEncoder
    from bort.teacher.load import load_teacher

    config = run.config
    path = encoder_path(config, encoders)

    def opened() -> tuple[TextEncoder, int, str]:
        teacher = load_teacher(TeacherConfig(path=path))
        length = min(task.max_length, teacher.positions)
        return TextEncoder(teacher.encoder, teacher.tokenizer, length), teacher.parameters, teacher.digest

    largest = models["student"]["parameters"] if "student" in models else None
    sources = BaselineSources(opened, Path(config.cache) / "static", largest)
    found = run_baselines(task, config.finetuning.baselines, sources, observer=run.console, resamples=config.finetuning.resamples)
    run.tracked.metrics(
        {f"baselines/{name}/{metric}": record[metric]["mean"] for name, record in found.items() for metric in task.metrics}
    )
    return found


def latency_of(model: str, task: Task) -> float | None:
    """Return the median milliseconds of a fine-tuned model for one held-out example, from texts to logits."""
    from bort.baselines.run import single_latency
    from bort.finetuning.scoring import Scorer

    scorer = Scorer(model, task)
    return single_latency(lambda example: scorer.logits([example], "latency"), task.heldout)
