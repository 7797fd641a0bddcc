"""Keeps a training's curve, its checkpoints and its costs, and ends it when its time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from bort.checkpoints import CheckpointFolder, training_tensors
from bort.curve import Curve
from bort.distillation.data import TrainingBatches
from bort.observer import Observer

_MINUTE, _HOUR = 60.0, 3600.0


class Recorder(Callback):
    """Logs the curve, writes checkpoints, counts costs, and stops a run whose budget is in seconds.

    Of several processes that share a training only the first has a curve and writes; all of them evaluate together.

    Args:
        batches: What the training reads; told to stop where the clock ends the run.
        curve: Gets a point every ``log_every`` steps: means over these steps.
        checkpoints: Get the training state every ``checkpoint_every`` steps, and at the end of the run.
        checkpoint_every: Steps between two checkpoints.
        evaluate: Computes the held-out figures.
        observer: Told of progress and of the curve's points.
        tokens_per_step: Tokens of a step, for the note beside the progress.
        budget: Seconds after which no further step is begun; none where the steps are given.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        curve: Curve | None,
        checkpoints: CheckpointFolder,
        checkpoint_every: int,
        evaluate: Callable[[], dict[str, float]],
        observer: Observer,
        tokens_per_step: int,
        budget: float | None = None,
    ) -> None:
        self.batches, self.curve, self.checkpoints, self.checkpoint_every = batches, curve, checkpoints, checkpoint_every
        self.evaluate, self.observer, self.tokens_per_step, self.budget = evaluate, observer, tokens_per_step, budget
        self.window: dict[str, float] = {}
        self.window_steps = 0
        self.seconds = self.processor_seconds = self.evaluation_seconds = self.waited = 0.0
        self._wall, self._processor = time.perf_counter(), time.process_time()
        self._start = (0.0, 0)
        self._loss, self._saved = "", -1

    def restore(self, step: int, state: dict[str, Any]) -> None:
        """Takes over the window under way and the costs from the state of the checkpoint of ``step``."""
        self.window, self.window_steps = dict(state["window"]), int(state["window_steps"])
        self.seconds, self.processor_seconds = float(state["seconds"]), float(state["processor_seconds"])
        self.evaluation_seconds, self.waited = float(state["evaluation_seconds"]), float(state["waited"])
        self._saved = step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clocks."""
        self._wall, self._processor = time.perf_counter(), time.process_time()
        self._start = (time.perf_counter(), pl_module.step)
        self._expect(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Closes a step after the last of its parts: logs, evaluates, saves and ends where it is time."""
        module = pl_module
        if (batch_idx + 1) % self.batches.parts:
            return
        module.step += 1
        step, train = module.step, module.train_config
        for name, value in module.figures.items():
            self.window[name] = self.window.get(name, 0.0) + float(value)
        self.window_steps += 1
        self.count_time()
        if step % train.log_every == 0:
            self._log(step, module.used_rate)
        self._tell(step, module.steps)
        if train.evaluate_every and step % train.evaluate_every == 0 and step != module.steps:
            self.add_heldout(step, self.evaluated())
        if self.budget is not None:
            self._expect(module)
            self.batches.stopped = _agreed(self.seconds >= self.budget)
        if step % self.checkpoint_every == 0:
            self._save(module, trainer.optimizers[0])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what is left of the window and saves the last step."""
        if self.window_steps:
            self._log(pl_module.step, pl_module.used_rate)
        if self._saved != pl_module.step:
            self._save(pl_module, trainer.optimizers[0])

    def evaluated(self) -> dict[str, float]:
        """Returns the held-out figures, with the time that they take counted apart."""
        started = time.perf_counter()
        figures = self.evaluate()
        self.evaluation_seconds += time.perf_counter() - started
        return figures

    def add_heldout(self, step: int, figures: dict[str, float]) -> None:
        """Adds held-out figures to the curve."""
        self._add(step, {f"heldout_{name}": value for name, value in figures.items()})

    def count_time(self) -> None:
        """Adds the time since the last call to the costs."""
        wall, processor = time.perf_counter(), time.process_time()
        self.seconds += wall - self._wall
        self.processor_seconds += processor - self._processor
        self._wall, self._processor = wall, processor
        self.waited += self.batches.waited
        self.batches.waited = 0.0

    def _add(self, step: int, point: dict[str, float]) -> None:
        if self.curve is not None:
            self.curve.add(step, point)
            self.observer.metrics(point, step)

    def _log(self, step: int, rate: float) -> None:
        point = {name: total / self.window_steps for name, total in self.window.items()}
        point["learning_rate"] = rate
        self.window, self.window_steps = {}, 0
        self._loss = f"loss {point['loss']:.4g}, "
        self._add(step, point)

    def _expect(self, module: Any) -> None:
        if self.budget is not None and self.seconds > 0:
            module.expected_steps = module.step * self.budget / self.seconds

    def _tell(self, step: int, steps: int | None) -> None:
        if self.curve is None:
            return
        pace = (step - self._start[1]) / max(time.perf_counter() - self._start[0], 1e-9)
        left = steps - step if steps is not None else 0.0
        remaining = left / pace if steps is not None else max(0.0, (self.budget or 0.0) - self.seconds)
        note = f"{self._loss}{pace * self.tokens_per_step:,.0f} tokens/s, {_duration(remaining)} left"
        # Where the clock decides, the expected number of steps is what there is to say.
        total = steps if steps is not None else step + math.ceil(remaining * pace)
        self.observer.progress("steps", step, total, note)

    def _save(self, module: Any, optimizer: torch.optim.Optimizer) -> None:
        self._saved = module.step
        if self.curve is None:
            return
        self.count_time()
        self.curve.flush()
        state = {
            "window": self.window,
            "window_steps": self.window_steps,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "waited": self.waited,
        }
        self.checkpoints.save(module.step, training_tensors(module.student, optimizer), state)


def _agreed(done: bool) -> bool:
    """Returns what the first of several processes says: their clocks differ, and all have to make the same steps."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return done
    said = [done]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def _duration(seconds: float) -> str:
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _MINUTE:.0f} min" if seconds >= 2 * _MINUTE else f"{seconds:.0f} s"
