"""One fine-tuning run: one θ, one seed, the best epoch by steering score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.errors import BortError
from bort.files import digest, read_json, write_json, write_text
from bort.finetuning.config import FinetuningConfig, Impl
from bort.finetuning.encode import evaluation_batches
from bort.finetuning.model import (
    FrozenBottom,
    fold_scale,
    save_classifier,
    set_dropout,
    start_head,
)
from bort.finetuning.module import FinetuningModule, fit
from bort.finetuning.objective import Objective
from bort.finetuning.scoring import lines, predict_from_logits
from bort.finetuning.workspace import Workspace
from bort.model_facts import first_output
from bort.observer import Observer, Quiet
from bort.settings import check_settings
from bort.tasks.metrics import score
from bort.tasks.task import Example, Task


class Diverged(BortError):
    """Training ended in numbers that are none before an epoch was finished."""


@dataclass
class Trained:
    """A run's outcome: its record, its model on the CPU in evaluation mode, its held-out logits where they were asked for."""

    record: dict[str, Any]
    model: Any
    logits: NDArray[np.float64] | None


class _Run:
    """A model being trained or judged in a workspace, with its frozen bottom out of the way."""

    def __init__(self, workspace: Workspace, freeze: int) -> None:
        self.workspace, self.freeze = workspace, freeze
        self.model = workspace.model()
        self.frozen = FrozenBottom(self.model, freeze) if freeze else None
        self.cached = bool(freeze) and workspace.bottom(freeze, "train") is not None
        if self.frozen is not None and self.cached:
            self.frozen.detach_bottom()

    def feed(self, split: str, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        data = self.workspace.splits[split]
        inputs = {name: value.to(self.workspace.device) for name, value in data.batch(indices).items()}
        if self.frozen is not None and self.cached:
            tokens = self.workspace.bottom(self.freeze, split)
            assert tokens is not None
            mask = inputs["attention_mask"].bool()
            hidden = torch.zeros(*mask.shape, tokens.shape[-1], device=self.workspace.device)
            parts = [tokens[int(data.starts[index]) : int(data.starts[index + 1])] for index in indices]
            hidden[mask] = torch.cat(parts).to(self.workspace.device)
            self.frozen.give(hidden)
        return inputs

    def logits(self, split: str) -> NDArray[np.float64]:
        """Returns the logits of a split in its order, [N, outputs], or [N, most options] for a choice."""
        data = self.workspace.splits[split]
        found = np.empty((len(data.lengths), self.workspace.task.outputs))
        training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for indices in evaluation_batches(data.lengths):
                found[indices] = first_output(self.model, self.feed(split, indices)).double().cpu().numpy()
        if training:
            self.train()
        gathered: NDArray[np.float64] = data.pick()[1].gather(torch.from_numpy(found)).numpy()
        return gathered

    def train(self) -> None:
        """Switches dropout on, except in the frozen part."""
        self.model.train()
        if self.frozen is not None:
            self.frozen.still()

    def finish(self) -> Any:
        if self.frozen is not None:
            self.frozen.attach_bottom()
        return self.model.cpu().eval()


def train_classifier(
    workspace: Workspace,
    config: FinetuningConfig,
    *,
    seed: int,
    label: str,
    observer: Observer | None = None,
    prefix: str = "",
    heldout: bool = True,
    make: Callable[..., FinetuningModule] = FinetuningModule,
    hopeless: Callable[[int, float], bool] = lambda epoch, steering: False,
) -> Trained:
    """Trains once and takes the epoch that is best on steering examples.

    Args:
        workspace: Model and task.
        config: With θ in its place.
        seed: Fixes the head's first values, the order of batches and dropout.
        label: What progress is reported under.
        observer: Told of progress and metrics.
        prefix: Of the names of metrics, so that the curves of several runs lie beside each other.
        heldout: Whether held-out examples are scored; a trial that only serves a choice leaves them alone.
        make: Makes the loop's module from what :class:`FinetuningModule` takes; for another loss or another length.
        hopeless: Told of (epoch, steering score); says whether a trial is to be given up.

    Raises:
        Diverged: Training diverged before an epoch was finished.
    """
    observer = observer or Quiet()
    started, processor = time.perf_counter(), time.process_time()
    task = workspace.task
    with _seeded(seed, workspace.impl.threads):
        run = _Run(workspace, config.freeze)
        start_head(run.model, workspace.fresh, seed)
        set_dropout(run.model, config.dropout)
        run.train()
        scale = None
        if task.kind == "regression":
            targets = workspace.splits["train"].labels
            scale = (float(targets.mean()), float(targets.std()) or 1.0)
        objective = Objective(
            task.kind,
            workspace.splits["train"].labels,
            right=workspace.splits["train"].right,
            scale=scale,
            margin=task.margin,
            teacher=workspace.taught,
            temperature=config.temperature,
            teacher_weight=config.teacher_weight,
        )
        curve: list[dict[str, float]] = []

        def judge() -> float:
            found = predict_from_logits(task, run.logits("steering"))
            return score(task, found, task.steering)[task.primary]

        def after_epoch(epoch: int, loss: float, steering: float) -> bool:
            curve.append({"epoch": epoch, "loss": loss, f"steering_{task.primary}": steering})
            observer.metrics({f"{prefix}loss": loss, f"{prefix}steering_{task.primary}": steering}, epoch)
            return hopeless(epoch, steering)

        def after_step(done: int, total: int) -> None:
            observer.progress(label, done, total)

        module = make(
            run.model,
            workspace.splits["train"],
            lambda indices: run.feed("train", indices),
            config,
            seed=seed,
            fresh=workspace.fresh,
            objective=objective,
            judge=judge,
            after_epoch=after_epoch,
            after_step=after_step,
        )
        fit(module, workspace.impl.device, workspace.impl.precision)
        if not curve:
            raise Diverged(f"{label}: training diverged with learning_rate={config.learning_rate:g}; take a smaller one.")
        run.model.to(workspace.device)
        module.restore_best()
        if scale is not None:
            fold_scale(run.model, *scale)
        record: dict[str, Any] = {"seed": seed, "theta": config.theta()}
        found: NDArray[np.float64] | None = None
        for split in ("steering", "heldout") if heldout else ("steering",):
            found = run.logits(split)
            record[split] = score(task, predict_from_logits(task, found), getattr(task, split))
        model = run.finish()
    record |= {
        "epochs": module.epochs_run,
        "best_epoch": module.best_epoch,
        "diverged": module.diverged,
        "pruned": module.pruned,
        "steps": module.epochs_run * module.batches_per_epoch,
        "curve": curve,
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - processor,
    }
    return Trained(record, model, found if heldout else None)


def finetune_once(
    model_dir: str | Path,
    task: Task,
    theta: Mapping[str, Any],
    *,
    seed: int,
    directory: str | Path | None = None,
    impl: Impl | None = None,
    observer: Observer | None = None,
    config: FinetuningConfig | None = None,
) -> dict[str, Any]:
    """Fine-tunes a model once.

    Args:
        model_dir: An encoder of transformers.
        task: The task.
        theta: Settings that replace those of ``config``.
        seed: Fixes everything that is drawn.
        directory: Gets ``model/``, ``predictions.jsonl`` and ``record.json``; nothing is written where absent. A directory that
            holds the finished record of the same run is read instead of training again.
        impl: Device, precision, threads.
        observer: Told of progress and metrics.
        config: Defaults of θ, pooling and the like.

    Returns:
        ``seed``, ``theta``, ``steering`` and ``heldout`` (metric → score), ``epochs``, ``best_epoch``, ``curve``, ``seconds``,
        ``processor_seconds``.
    """
    settings = (config or FinetuningConfig()).with_theta(theta)
    check_settings(settings, "finetuning")
    workspace = Workspace(model_dir, task, settings.pooling, impl, teacher_of(settings, task, impl))
    taught = [model_digest(settings.teacher), settings.temperature, settings.teacher_weight] if settings.teacher else []
    mark = digest(
        [model_digest(model_dir), task.digest, settings.theta(), settings.pooling, settings.patience, settings.clip, seed, taught]
    )
    if directory is not None and (Path(directory) / "record.json").exists():
        done: dict[str, Any] = read_json(Path(directory) / "record.json")
        if done.get("fingerprint") == mark:
            return done
    trained = train_classifier(workspace, settings, seed=seed, label=f"fine-tune {task.name}", observer=observer)
    record = {**trained.record, "fingerprint": mark}
    if directory is not None:
        assert trained.logits is not None
        save_classifier(trained.model, workspace.tokenizer, Path(directory) / "model")
        write_text(Path(directory) / "predictions.jsonl", lines(task, trained.logits))
        write_json(Path(directory) / "record.json", record)
    return record


def teacher_of(
    config: FinetuningConfig, task: Task, impl: Impl | None, observer: Observer | None = None
) -> Callable[[Sequence[Example]], NDArray[np.float64]] | None:
    """Returns what gives the teacher's logits, in the order of the task's classes; ``None`` where no teacher is named.

    Raises:
        BortError: The teacher is no classifier, or has other labels than the task: refused before anything is trained.
    """
    if config.teacher is None or config.teacher_weight == 0:
        return None
    from bort.finetuning.scoring import Scorer

    scorer = Scorer(config.teacher, task, impl, observer, what="The teacher")
    return lambda examples: scorer.logits(examples, f"teach {task.name}")


def model_digest(model_dir: str | Path) -> str:
    """Returns the digest of a model directory's files, or of the hub id."""
    from bort.files import file_digest

    path = Path(model_dir)
    if not path.is_dir():
        return digest(str(model_dir))
    kept = sorted(file for file in path.iterdir() if file.suffix in (".json", ".safetensors", ".txt", ".model", ".bin"))
    return digest({file.name: file_digest(file) for file in kept})


@contextmanager
def _seeded(seed: int, threads: int | None) -> Iterator[None]:
    """Seeds torch for dropout and sets its threads; both are as before afterwards."""
    before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
