"""One training: one θ, one seed, the best epoch by steering score."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bort.errors import BortError
from bort.files import read_json, write_json, write_text
from bort.finetuning.batches import BatchSchedule
from bort.finetuning.classifier import Classifier
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.model import fold_scale, save_classifier
from bort.finetuning.module import BestEpoch, FinetuningModule, Reporting, fit
from bort.finetuning.objective import Objective, TaskObjective, TeacherTerm
from bort.finetuning.scoring import lines
from bort.finetuning.setup import FinetuningSetup
from bort.finetuning.workspace import Workspace
from bort.observer import Observer, Quiet


class DivergenceError(BortError):
    """Training diverged before an epoch was finished."""


@dataclass
class TrainingResult:
    """The outcome of one training.

    Args:
        record: Seed, θ, scores, epochs, curve and cost.
        model: The model of the best epoch, on the CPU in evaluation mode.
        logits: Its held-out logits; ``None`` if held-out examples were not scored.
    """

    record: dict[str, Any]
    model: Any
    logits: NDArray[np.float64] | None


def train_classifier(
    workspace: Workspace, config: FinetuningConfig, seed: int, reporting: Reporting, *, heldout: bool = True
) -> TrainingResult:
    """Train a model on a task's labels and keep the epoch that is best on steering examples.

    Args:
        workspace: Model and task.
        config: With θ in place.
        seed: Determines the head's first values, the order of batches and dropout.
        reporting: Where to report to.
        heldout: Whether held-out examples are scored; a trial that only serves a choice leaves them alone.

    Raises:
        DivergenceError: Training diverged before an epoch was finished.
    """
    with training_cost() as cost, seeded(seed, workspace.impl.threads):
        classifier = Classifier(workspace, config, seed)
        schedule = BatchSchedule(classifier.train_split.sizes, config.batch_size, seed, config.epochs)
        result = train_best_epoch(classifier, _objective(workspace, config), schedule, reporting, heldout=heldout)
    result.record |= cost
    return result


def train_best_epoch(
    classifier: Classifier, objective: Objective, schedule: BatchSchedule, reporting: Reporting, *, heldout: bool
) -> TrainingResult:
    """Train a classifier, go back to its best epoch, and score that; torch has to be seeded.

    Raises:
        DivergenceError: Training diverged before an epoch was finished.
    """
    module, epochs = FinetuningModule(classifier, objective, schedule), BestEpoch(reporting)
    fit(module, epochs)
    config = classifier.config
    if not epochs.curve:
        raise DivergenceError(
            f"{reporting.label}: training diverged with learning_rate={config.learning_rate:g}; take a smaller one."
        )
    classifier.model.to(classifier.workspace.device)
    epochs.restore(classifier.model)
    if objective.scale is not None:
        fold_scale(classifier.model, *objective.scale)
    record: dict[str, Any] = {"seed": classifier.seed, "theta": config.theta()}
    logits: NDArray[np.float64] | None = None
    for split in ("steering", "heldout") if heldout else ("steering",):
        logits = classifier.logits(split)
        record[split] = classifier.score(split, logits)
    record |= {
        "epochs": epochs.epochs,
        "best_epoch": epochs.best_epoch,
        "diverged": epochs.diverged,
        "pruned": epochs.pruned,
        "steps": epochs.epochs * schedule.batches_per_epoch,
        "curve": epochs.curve,
    }
    return TrainingResult(record, classifier.finish(), logits if heldout else None)


def finetune_once(setup: FinetuningSetup, directory: str | Path | None = None, observer: Observer | None = None) -> dict[str, Any]:
    """Fine-tune a model once, with the setup's seed.

    Args:
        setup: Model, task and settings.
        directory: Receives ``model/``, ``predictions.jsonl`` and ``record.json``; nothing is written without it. A directory that
            holds the finished record of the same training is read instead of training again.
        observer: Receives progress and metrics.

    Returns:
        ``seed``, ``theta``, ``steering`` and ``heldout`` (metric → score), ``epochs``, ``best_epoch``, ``curve``, ``seconds``,
        ``processor_seconds``, ``fingerprint``.
    """
    setup.check()
    observer, task = observer or Quiet(), setup.task
    workspace = Workspace(setup, observer)
    fingerprint = setup.fingerprint()
    if directory is not None and (Path(directory) / "record.json").exists():
        done: dict[str, Any] = read_json(Path(directory) / "record.json")
        if done.get("fingerprint") == fingerprint:
            return done
    result = train_classifier(workspace, setup.config, setup.seed, Reporting(f"fine-tune {task.name}", observer))
    record = {**result.record, "fingerprint": fingerprint}
    if directory is not None:
        assert result.logits is not None
        save_classifier(result.model, workspace.tokenizer, Path(directory) / "model")
        write_text(Path(directory) / "predictions.jsonl", lines(task, result.logits))
        write_json(Path(directory) / "record.json", record)
    return record


def _objective(workspace: Workspace, config: FinetuningConfig) -> TaskObjective:
    """Return the loss of the task's labels and of the teacher, if there is one."""
    train, logits = workspace.splits["train"], workspace.teacher_logits
    teacher = None if logits is None else TeacherTerm(logits, config.temperature, config.teacher_weight)
    return TaskObjective(workspace.task.kind, train.labels, train.right, workspace.task.margin, teacher)


@contextmanager
def training_cost() -> Iterator[dict[str, float]]:
    """Yield a dictionary that holds ``seconds`` and ``processor_seconds`` of the block after its end."""
    cost: dict[str, float] = {}
    started, processor = time.perf_counter(), time.process_time()
    yield cost
    cost |= {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - processor}


@contextmanager
def seeded(seed: int, threads: int | None) -> Iterator[None]:
    """Seed torch and set its threads; both are restored afterwards."""
    before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
