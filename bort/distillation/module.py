"""The Lightning module of distillation: a step as a function of its number, its data and the weights before it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from bort.checkpoints import Checkpoint, restore_optimizer
from bort.distillation.batches import Batch
from bort.distillation.config import TrainConfig
from bort.distillation.objective import Objective
from bort.distillation.student import StudentModel
from bort.errors import BortError

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
            torch.manual_seed(int(np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]))
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
