"""The callback of a training: it records curve, checkpoints and costs, and enforces a time budget."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor

from bort.checkpoints import Checkpoint, CheckpointFolder, training_tensors
from bort.curve import Curve
from bort.distillation.config import BudgetConfig
from bort.distillation.data import MicroBatches
from bort.observer import Observer

_MINUTE, _HOUR = 60.0, 3600.0

#: What a checkpoint holds of the progress, beside its step.
_STATE = ("window", "window_steps", "seconds", "processor_seconds", "evaluation_seconds", "waited")


@dataclass
class Progress:
    """Steps and costs of a training over all starts: the state of a checkpoint beside its tensors.

    Args:
        step: Steps done.
        saved: Step of the newest checkpoint.
        window: Sums of the metrics since the last point of the curve.
        window_steps: Steps of these sums.
        seconds: Wall seconds of training and evaluation.
        processor_seconds: Processor seconds of this process.
        evaluation_seconds: Wall seconds of evaluation.
        waited: Wall seconds in which steps waited for data.
    """

    step: int = 0
    saved: int | None = None
    window: dict[str, float] = field(default_factory=dict)
    window_steps: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    waited: float = 0.0

    @classmethod
    def of(cls, checkpoint: Checkpoint | None) -> Progress:
        """Return the progress at a checkpoint, or that of a new training."""
        if checkpoint is None:
            return cls()
        return cls(checkpoint.step, checkpoint.step, **{name: checkpoint.state[name] for name in _STATE})

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds, as JSON values."""
        return {name: getattr(self, name) for name in _STATE}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Add the metrics of a step to the window."""
        for name, value in metrics.items():
            self.window[name] = self.window.get(name, 0.0) + float(value)
        self.window_steps += 1


class Recorder(Callback):
    """Record each step; of several processes all evaluate, and the first alone writes.

    Args:
        progress: Kept up to date.
        curve: Gets a point every ``log_every`` steps; ``None`` in all processes but the first.
        checkpoints: Get the training state every ``checkpoint_every`` steps, and at the last step.
        budget: Steps between two checkpoints, and the seconds after which no further step begins.
        observer: Notified of progress and of the curve's points.
    """

    def __init__(
        self, progress: Progress, curve: Curve | None, checkpoints: CheckpointFolder, budget: BudgetConfig, observer: Observer
    ) -> None:
        self.progress, self.curve, self.checkpoints, self.budget, self.observer = progress, curve, checkpoints, budget, observer
        self._wall, self._processor = time.perf_counter(), time.process_time()
        self._started, self._loss = (self._wall, progress.step), ""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clocks."""
        self._wall, self._processor = time.perf_counter(), time.process_time()
        self._started = (self._wall, self.progress.step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: MicroBatches, batch_idx: int) -> None:
        """Record a step: log, report, evaluate, end and save if it is time."""
        progress, train = self.progress, pl_module.objective.setup.train
        progress.add(outputs)
        progress.waited += batch.waited
        self.count_time()
        if progress.step % train.log_every == 0:
            self._log(trainer)
        self._report(pl_module.steps, pl_module.objective.setup.tokens_per_step)
        if train.evaluate_every and progress.step % train.evaluate_every == 0 and progress.step != pl_module.steps:
            self.evaluate(trainer, pl_module)
        if self.budget.seconds is not None:
            # The clocks of several processes differ, and all have to make the same steps.
            trainer.should_stop = trainer.strategy.broadcast(progress.seconds >= self.budget.seconds)
        if progress.step % self.budget.checkpoint_every == 0:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Log what is left of the window and save the last step."""
        if self.progress.window_steps:
            self._log(trainer)
        if self.progress.saved != self.progress.step:
            self._save(trainer, pl_module)

    def evaluate(self, trainer: Any, module: Any) -> dict[str, float]:
        """Return the held-out metrics, and add them to the curve."""
        started = time.perf_counter()
        metrics: dict[str, float] = module.evaluate(trainer)
        self.progress.evaluation_seconds += time.perf_counter() - started
        if metrics:
            self._add({f"heldout_{name}": value for name, value in metrics.items()})
        return metrics

    def count_time(self) -> None:
        """Add the time since the last call to the costs."""
        wall, processor = time.perf_counter(), time.process_time()
        self.progress.seconds += wall - self._wall
        self.progress.processor_seconds += processor - self._processor
        self._wall, self._processor = wall, processor

    def _add(self, point: dict[str, float]) -> None:
        if self.curve is not None:
            self.curve.add(self.progress.step, point)
            self.observer.metrics(point, self.progress.step)

    def _log(self, trainer: Any) -> None:
        progress = self.progress
        point = {name: total / progress.window_steps for name, total in progress.window.items()}
        progress.window, progress.window_steps = {}, 0
        self._loss = f"loss {point['loss']:.4g}, "
        self._add({**point, "learning_rate": trainer.optimizers[0].param_groups[0]["lr"]})

    def _report(self, steps: int | None, tokens_per_step: int) -> None:
        if self.curve is None:
            return
        step, (wall, first) = self.progress.step, self._started
        pace = (step - first) / max(time.perf_counter() - wall, 1e-9)
        if steps is not None:
            total, remaining = steps, (steps - step) / pace
        else:
            remaining = max(0.0, (self.budget.seconds or 0.0) - self.progress.seconds)
            total = step + math.ceil(remaining * pace)
        note = f"{self._loss}{pace * tokens_per_step:,.0f} tokens/s, {_duration(remaining)} left"
        self.observer.progress("steps", step, total, note)

    def _save(self, trainer: Any, module: Any) -> None:
        self.progress.saved = self.progress.step
        if self.curve is None:
            return
        self.count_time()
        self.curve.flush()
        tensors = training_tensors(module.student, trainer.optimizers[0])
        self.checkpoints.save(self.progress.step, tensors, self.progress.state())


def _duration(seconds: float) -> str:
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _MINUTE:.0f} min" if seconds >= 2 * _MINUTE else f"{seconds:.0f} s"
