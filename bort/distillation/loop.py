"""One training put together: it goes on from the last good checkpoint, runs to its end, and is measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from bort.checkpoints import Checkpoint, CheckpointFolder, restore_optimizer, restore_weights
from bort.corpus.order import BlockOrder
from bort.curve import Curve, Point
from bort.distillation.config import TrainConfig
from bort.distillation.data import BatchSource, TrainingBatches
from bort.distillation.forward import Batch, moved
from bort.distillation.objective import Objective
from bort.distillation.student import StudentModel
from bort.errors import BortError
from bort.files import translate_disk_full
from bort.observer import Observer
from bort.randomness import seeds
from bort.runtime import quiet_lightning

#: Keeps the random stream of dropout apart from other uses of the same seed.
_DROPOUT_STREAM = 0x0D20

#: Stands for the length of a run whose pace is not known yet.
_ENDLESS = 1e18


class DivergenceError(BortError):
    """Training met a loss or a gradient that is not finite.

    Args:
        step: The step, counted from 1.
        what: What was not finite.
        kept: The step of the last good checkpoint, if there is one.
    """

    def __init__(self, step: int, what: str, kept: int | None) -> None:
        self.step = step
        rest = f"the checkpoint of step {kept} is kept" if kept is not None else "no checkpoint had been written"
        super().__init__(f"Training diverged at step {step} ({what} is not finite); {rest}. Try a smaller train.learning_rate.")


class DistillationModule(LightningModule):
    """One student in training. Rate, dropout and data are functions of the step, so that any step can be the first.

    Args:
        student: What is trained.
        objective: Its loss.
        train: The optimizer's settings.
        steps: Steps in all, for the schedule; none where the clock ends the run.
        seed: Seeds dropout.
        resumed: The checkpoint that training goes on from.

    Attributes:
        step: Steps done.
        figures: Figures of the step under way, means over its parts: each term, the loss, the gradient's norm.
        used_rate: The learning rate of the last step.
        expected_steps: For a run that the clock ends, the steps that it will come to at the pace so far.
        kept: Tells the step of the last checkpoint, for the message of a run that diverged.
    """

    def __init__(
        self,
        student: StudentModel,
        objective: Objective,
        train: TrainConfig,
        steps: int | None,
        seed: int,
        resumed: Checkpoint | None,
    ) -> None:
        super().__init__()
        self.student, self.objective, self.train_config, self.steps, self.seed = student, objective, train, steps, seed
        self.resumed = resumed
        self.step = resumed.step if resumed else 0
        self.figures: dict[str, Tensor] = {}
        self.used_rate, self.expected_steps = 0.0, _ENDLESS
        self.kept: Callable[[], int | None] = lambda: None
        self._dropout = student.model.config.hidden_dropout_prob > 0

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Returns the loss of a batch: of one part of a step."""
        parts = self.train_config.accumulate
        part = index % parts
        if self._dropout:
            # Lightning's loop draws nothing: the caller's generator is put back when training ends. The first part on the first
            # device has the stream that a step in one piece has.
            place = part * self.trainer.world_size + self.trainer.global_rank
            stream = [self.seed, _DROPOUT_STREAM, self.step, *([place] if place else [])]
            torch.manual_seed(seeds(*stream, bits=64)[0])
        terms = self.objective.terms(self.student, batch)
        loss = self.objective.total(terms)
        figures = {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}
        before = self.figures if part else {}
        self.figures = {name: value / parts + before.get(name, 0.0) for name, value in figures.items()}
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradient, and stops a run that diverged before it spoils the weights."""
        if self.trainer.world_size > 1:
            # The gradient is the mean over processes already; all must also see the same loss, or only some would stop.
            mean = self.trainer.strategy.reduce(torch.stack(list(self.figures.values())), reduce_op="mean")
            self.figures = dict(zip(self.figures, mean.unbind(), strict=True))
        gradients = [parameter.grad for parameter in self.student.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.figures["gradient_norm"] = norm
        if not math.isfinite(float(self.figures["loss"])):
            raise DivergenceError(self.step + 1, "the loss", self.kept())
        if not math.isfinite(float(norm)):
            raise DivergenceError(self.step + 1, "the gradient", self.kept())
        limit = self.train_config.clip
        # Most steps are below the limit: leaving those gradients alone saves a pass over all of them.
        if limit > 0 and float(norm) > limit:
            torch.nn.utils.clip_grads_with_norm_([p for p in self.student.parameters() if p.grad is not None], limit, norm)
        self.used_rate = self.train_config.rate(self.step, self.expected_steps if self.steps is None else self.steps)
        for group in optimizer.param_groups:
            group["lr"] = self.used_rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns the optimizer, its state restored where training goes on."""
        optimizer = make_optimizer(self.student, self.train_config)
        if self.resumed:
            restore_optimizer(self.student, optimizer, self.resumed)
        return optimizer


def make_optimizer(student: StudentModel, train: TrainConfig) -> torch.optim.Optimizer:
    """Returns AdamW with no decay on biases and norms."""
    decayed = [parameter for parameter in student.parameters() if parameter.ndim > 1]
    spared = [parameter for parameter in student.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": train.weight_decay}, {"params": spared, "weight_decay": 0.0}],
        lr=train.learning_rate,
        betas=(train.beta1, train.beta2),
        eps=train.epsilon,
        # Three times as fast as the unfused loop on a processor, where the embedding's update would be a quarter of a step.
        fused=True,
    )


CURVE = "curve.jsonl"


@dataclass(frozen=True)
class Ended:
    """What a training came to.

    Args:
        steps: Steps done.
        figures: Held-out figures.
        curve: The curve's points; none in processes other than the first.
        seconds: Wall seconds of training and evaluation, over all starts, up to the checkpoints that were gone on from.
        evaluation_seconds: Those of them that went into held-out figures.
        processor_seconds: Processor seconds, of all processes.
        waited: Seconds that steps waited for their data.
    """

    steps: int
    figures: dict[str, float]
    curve: list[Point]
    seconds: float
    evaluation_seconds: float
    processor_seconds: float
    waited: float


@dataclass
class Loop:
    """The parts of one training.

    Args:
        student: What is trained, on its device.
        objective: Its loss.
        source: Makes the batches.
        order: Says which blocks a step holds.
        train: The optimizer and the batches.
        steps: Steps in all; none where the clock ends the run.
        budget: Seconds, where the clock ends the run.
        seed: Seeds dropout.
        checkpoints: Where checkpoints are, and go.
        checkpoint_every: Steps between two of them.
        directory: Gets the curve.
        trainer: Lightning's trainer.
        observer: Told of progress, curve and damaged checkpoints.
    """

    student: StudentModel
    objective: Objective
    source: BatchSource
    order: BlockOrder
    train: TrainConfig
    steps: int | None
    budget: float | None
    seed: int
    checkpoints: CheckpointFolder
    checkpoint_every: int
    directory: Path
    trainer: Any
    observer: Observer

    def run(self) -> Ended:
        """Trains what is left to train and evaluates.

        Raises:
            BortError: Training diverged, or the disk is full.
        """
        from bort.distillation.callback import Recorder

        resumed = self.checkpoints.load(self.observer, self.steps)
        first = resumed.step if resumed else 0
        if resumed:
            restore_weights(self.student, resumed)
        self.objective.measure_variances(self.source, self._device)
        world, rank = self.trainer.world_size, self.trainer.global_rank
        # A memory computes with the teacher, which two threads must not do at once.
        ahead = self._device.type != "cpu" and self.source.memory is None
        batches = TrainingBatches(self.source, self.order, first, self.steps, self.train.accumulate, rank, world, ahead=ahead)
        tokens_per_step = self.order.batch_size * self.source.corpus.block_length
        module = DistillationModule(self.student, self.objective, self.train, self.steps, self.seed, resumed)
        module.kept = lambda: next(reversed(self.checkpoints.steps()), None)
        with translate_disk_full(self.directory):
            curve = Curve(self.directory / CURVE, first) if rank == 0 else None
            try:
                recorder = Recorder(
                    batches,
                    curve,
                    self.checkpoints,
                    self.checkpoint_every,
                    self._evaluate,
                    self.observer,
                    tokens_per_step,
                    self.budget,
                )
                if resumed:
                    recorder.restore(resumed.step, resumed.state)
                if first < self.steps if self.steps is not None else recorder.seconds < (self.budget or 0.0):
                    self.trainer.callbacks.append(recorder)
                    dropout = self.student.model.config.hidden_dropout_prob > 0
                    with quiet_lightning(), torch.random.fork_rng(enabled=dropout):
                        self.trainer.fit(module, batches)
                    # Lightning leaves the student in training mode, and on the processor or its device as it was.
                    self.student.to(self._device)
                figures = recorder.evaluated()
                if figures:
                    recorder.add_heldout(module.step, figures)
                recorder.count_time()
                if curve is not None:
                    curve.flush()
            finally:
                if curve is not None:
                    curve.close()
        return Ended(
            module.step,
            figures,
            curve.points if curve is not None else [],
            recorder.seconds,
            recorder.evaluation_seconds,
            self._summed(recorder.processor_seconds),
            recorder.waited,
        )

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.trainer.strategy.root_device
        return device

    def _evaluate(self) -> dict[str, float]:
        # Only a training that ran in this process has joined the others.
        together = self.trainer.world_size > 1 and torch.distributed.is_initialized()
        share = (self.trainer.global_rank, self.trainer.world_size) if together else (0, 1)
        batches = self.source.heldout_batches(self.train.batch_size, self.train.heldout_blocks, *share)
        return self.objective.metrics(self.student, (moved(batch, self._device) for batch in batches), together)

    def _summed(self, value: float) -> float:
        if self.trainer.world_size == 1 or not torch.distributed.is_initialized():
            return value
        return float(self.trainer.strategy.reduce(torch.tensor(value, device=self._device), reduce_op="sum"))
