"""One training of a student: the module that makes a step, and the function that runs the rest of it."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor

from bort.checkpoints import Checkpoint, CheckpointFolder, restore_optimizer, restore_weights
from bort.curve import Curve, Point
from bort.distillation.callback import Progress, Recorder
from bort.distillation.config import BudgetConfig, TrainConfig
from bort.distillation.data import BatchSource, MicroBatches, TrainingBatches
from bort.distillation.forward import moved
from bort.distillation.objective import Objective
from bort.distillation.student import StudentModel
from bort.errors import BortError
from bort.files import translate_disk_full
from bort.observer import Observer
from bort.randomness import seeds
from bort.runtime import quiet_lightning

CURVE = "curve.jsonl"
#: Separates the random stream of dropout from other uses of the same seed.
_DROPOUT_STREAM = 0x0D20
#: Stands for the length of a run whose pace is not known yet.
_ENDLESS = 1e18


class DivergenceError(BortError):
    """Training met a loss or a gradient that is not finite.

    Args:
        step: The step, counted from 1.
        what: What was not finite.
        checkpoint: The step of the last good checkpoint, if there is one.
    """

    def __init__(self, step: int, what: str, checkpoint: int | None) -> None:
        self.step = step
        rest = f"the checkpoint of step {checkpoint} is kept" if checkpoint is not None else "no checkpoint had been written"
        super().__init__(f"Training diverged at step {step} ({what} is not finite); {rest}. Try a smaller train.learning_rate.")


class DistillationModule(LightningModule):
    """A student in training: learning rate, dropout and data are functions of the step, so any can be first.

    Args:
        student: The student, on its device.
        objective: Its loss, with the setup.
        source: The held-out batches.
        budget: The length of the training.
        recorder: The callback; its progress counts the steps.
        resumed: The checkpoint that the optimizer resumes from.
    """

    def __init__(
        self,
        student: StudentModel,
        objective: Objective,
        source: BatchSource,
        budget: BudgetConfig,
        recorder: Recorder,
        resumed: Checkpoint | None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.student, self.objective, self.source, self.resumed = student, objective, source, resumed
        self.budget, self.steps = budget, budget.length(objective.setup.tokens_per_step)
        self.recorder, self.progress = recorder, recorder.progress
        self.dropout = student.model.config.hidden_dropout_prob > 0

    def configure_callbacks(self) -> list[Callback]:
        """Return the recorder."""
        return [self.recorder]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer, with its state restored."""
        optimizer = make_optimizer(self.student, self.objective.setup.train)
        if self.resumed:
            restore_optimizer(self.student, optimizer, self.resumed)
        return optimizer

    def training_step(self, micro_batches: MicroBatches, index: int) -> dict[str, Tensor]:
        """Make one step; return loss and terms, as means over the micro-batches, and the gradient's norm.

        Raises:
            DivergenceError: The loss or the gradient is not finite; the weights are those of the step before.
        """
        train, optimizer, metrics = self.objective.setup.train, self.optimizers(), dict[str, Tensor]()
        for number, batch in enumerate(micro_batches):
            self._seed_dropout(number)
            with self._synchronized(number == train.accumulate - 1):
                terms = self.objective.terms(self.student, moved(batch, self.device))
                loss = self.objective.total(terms)
                self.manual_backward(loss / train.accumulate)
            for name, value in {"loss": loss, **terms}.items():
                metrics[name] = value.detach() / train.accumulate + metrics.get(name, 0.0)
        if self.trainer.world_size > 1:
            # The gradient is a mean over processes already; with unequal losses only some would stop.
            means = self.trainer.strategy.reduce(torch.stack(list(metrics.values())), reduce_op="mean")
            metrics = dict(zip(metrics, means.unbind(), strict=True))
        gradients = [parameter.grad for parameter in self.student.parameters() if parameter.grad is not None]
        metrics["gradient_norm"] = norm = torch.nn.utils.get_total_norm(gradients)
        for what, value in (("the loss", metrics["loss"]), ("the gradient", norm)):
            if not math.isfinite(float(value)):
                raise DivergenceError(self.progress.step + 1, what, self.progress.saved)
        # Most steps are below the limit: leaving those gradients alone saves a pass over all of them.
        if 0 < train.clip < float(norm):
            torch.nn.utils.clip_grads_with_norm_([p for p in self.student.parameters() if p.grad is not None], train.clip, norm)
        for group in optimizer.param_groups:
            group["lr"] = train.rate(self.progress.step, self._length())
        optimizer.step()
        optimizer.zero_grad()
        self.progress.step += 1
        return metrics

    def evaluate(self, trainer: Any) -> dict[str, float]:
        """Return the held-out metrics; several processes share the work."""
        # Only a training that ran in this process has joined the others.
        together = trainer.world_size > 1 and torch.distributed.is_initialized()
        share = (trainer.global_rank, trainer.world_size) if together else (0, 1)
        batches = (moved(batch, trainer.strategy.root_device) for batch in self.source.heldout_batches(*share))
        return self.objective.metrics(self.student, batches, together)

    def _seed_dropout(self, number: int) -> None:
        """Seed the dropout of a micro-batch; the first on the first device has the stream of an undivided step."""
        if self.dropout:
            index = number * self.trainer.world_size + self.trainer.global_rank
            stream = [self.objective.setup.seed, _DROPOUT_STREAM, self.progress.step, *([index] if index else [])]
            torch.manual_seed(seeds(*stream, bits=64)[0])

    def _synchronized(self, last: bool) -> Any:
        """Return a context in which processes exchange gradients after the last micro-batch only."""
        return nullcontext() if last else getattr(self.trainer.strategy, "block_backward_sync", nullcontext)()

    def _length(self) -> float:
        """Return the steps in all; of a budget in seconds those expected at the pace so far."""
        if self.steps is not None:
            return self.steps
        seconds = self.progress.seconds
        return self.progress.step * (self.budget.seconds or 0.0) / seconds if seconds > 0 else _ENDLESS


def make_optimizer(student: StudentModel, train: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW without decay on biases and norms."""
    decayed = [parameter for parameter in student.parameters() if parameter.ndim > 1]
    spared = [parameter for parameter in student.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": train.weight_decay}, {"params": spared, "weight_decay": 0.0}],
        lr=train.learning_rate,
        betas=(train.beta1, train.beta2),
        eps=train.epsilon,
        # Three times as fast on a processor, where the embedding's update would be a quarter of a step.
        fused=True,
    )


@dataclass(frozen=True)
class TrainingResult:
    """The end of a training.

    Args:
        progress: Steps and costs over all starts, up to the checkpoints that were resumed from; processor
            seconds are those of all processes.
        metrics: Held-out metrics.
        curve: The curve's points; empty in processes other than the first.
    """

    progress: Progress
    metrics: dict[str, float]
    curve: list[Point]


def fit(
    student: StudentModel,
    objective: Objective,
    source: BatchSource,
    budget: BudgetConfig,
    *,
    checkpoints: CheckpointFolder,
    trainer: Any,
    observer: Observer,
) -> TrainingResult:
    """Train a student from the last good checkpoint to the end of the budget, and evaluate it.

    Args:
        student: The student, on the trainer's device.
        objective: Its loss, with the setup.
        source: The batches.
        budget: The length of the training, and the steps between two checkpoints.
        checkpoints: Read and written; the curve is written beside their folder.
        trainer: Lightning's trainer.
        observer: Notified of progress, curve and damaged checkpoints.

    Raises:
        BortError: Training diverged, or the disk is full.
    """
    device, directory = trainer.strategy.root_device, checkpoints.directory.parent
    steps = budget.length(objective.setup.tokens_per_step)
    resumed = checkpoints.load(observer, steps)
    if resumed:
        restore_weights(student, resumed)
    objective.measure_variances(source, device)
    progress = Progress.of(resumed)
    # A relation memory computes with the teacher, which two threads must not do at once.
    ahead = device.type != "cpu" and source.memory is None
    batches = TrainingBatches(source, progress.step, steps, trainer.global_rank, trainer.world_size, ahead=ahead)
    with translate_disk_full(directory), ExitStack() as stack:
        first_process = trainer.global_rank == 0
        curve = stack.enter_context(closing(Curve(directory / CURVE, progress.step))) if first_process else None
        recorder = Recorder(progress, curve, checkpoints, budget, observer)
        module = DistillationModule(student, objective, source, budget, recorder, resumed)
        if progress.step < steps if steps is not None else progress.seconds < (budget.seconds or 0.0):
            with quiet_lightning(), torch.random.fork_rng(enabled=module.dropout):
                trainer.fit(module, batches)
            # Lightning leaves the student in training mode, and on the processor or its device as it was.
            student.to(device)
        metrics = recorder.evaluate(trainer, module)
        recorder.count_time()
        if curve is not None:
            curve.flush()
    if trainer.world_size > 1 and torch.distributed.is_initialized():
        own = torch.tensor(progress.processor_seconds, device=device)
        progress.processor_seconds = float(trainer.strategy.reduce(own, reduce_op="sum"))
    return TrainingResult(progress, metrics, curve.points if curve is not None else [])
