"""One training put together: it goes on from the last good checkpoint, runs to its end, and is measured."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bort.checkpoints import CheckpointFolder, restore_weights
from bort.corpus import BlockOrder
from bort.curve import Curve, Point
from bort.distillation.batches import BatchSource, TrainingBatches
from bort.distillation.config import TrainConfig
from bort.distillation.implementation import quiet_lightning
from bort.distillation.objective import Objective
from bort.distillation.student import StudentModel
from bort.errors import BortError
from bort.events import Observer

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
        from bort.distillation.module import DistillationModule
        from bort.distillation.recorder import Recorder

        resumed = self.checkpoints.load(self.observer, self.steps)
        first = resumed.step if resumed else 0
        if resumed:
            restore_weights(self.student, resumed)
        if self.objective.loss.hidden > 0:
            self.objective.measure_variance(self._moved(self.source.sample()))
        world, rank = self.trainer.world_size, self.trainer.global_rank
        # A memory computes with the teacher, which two threads must not do at once.
        ahead = self._device.type != "cpu" and self.source.memory is None
        batches = TrainingBatches(self.source, self.order, first, self.steps, self.train.accumulate, rank, world, ahead=ahead)
        tokens_per_step = self.order.batch_size * self.source.corpus.block_length
        module = DistillationModule(self.student, self.objective, self.train, self.steps, self.seed, resumed)
        module.kept = lambda: next(reversed(self.checkpoints.steps()), None)
        with disk_full_in_words(self.directory):
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
        return self.objective.figures(self.student, (self._moved(batch) for batch in batches), together)

    def _summed(self, value: float) -> float:
        if self.trainer.world_size == 1 or not torch.distributed.is_initialized():
            return value
        return float(self.trainer.strategy.reduce(torch.tensor(value, device=self._device), reduce_op="sum"))

    def _moved(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        device = self._device
        return batch if device.type == "cpu" else {name: tensor.to(device) for name, tensor in batch.items()}


@contextmanager
def disk_full_in_words(directory: Path) -> Iterator[None]:
    """Turns the many errors of a full disk into one sentence; what was whole before stays."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise BortError(
                f"The disk that holds {directory} is full: make room and give the same command again; "
                "it goes on from the last checkpoint."
            ) from error
        raise
