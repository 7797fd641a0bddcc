"""The settings of a distillation: student, training, budget, and the comparison of loops; the loss is in ``terms``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, MinLen

from bort.errors import ConfigurationError
from bort.settings import DISTINCT, OneOf, check_settings, shape_or

#: The learning rate after the warm-up; those that end at 0 depend on the length of the run.
SCHEDULES = ("constant", "linear", "cosine", "inverse_square_root")
ENDING_SCHEDULES = ("linear", "cosine")
#: The usual loop, and what leaves out one thing more each: see :mod:`bort.benchmarks.speed`.
SPEED_VARIANTS = ("usual", "masked", "cached", "compiled")
_Variants = Annotated[list[Annotated[str, OneOf(*SPEED_VARIANTS)]], MinLen(1), DISTINCT]


@dataclass
class StudentConfig:
    """The student and its initialization."""

    architecture: Annotated[str, shape_or("winner")] = "???"
    """``winner`` (of the search, set by the chain) or a shape such as ``4-8-1024-768``."""

    initialisation: Annotated[str, OneOf("random", "teacher")] = "random"
    """``random``, or ``teacher``: embeddings projected to the student's width, and every layer that fits."""

    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Probability during training, for hidden states and attention alike. A small student on little text
    underfits, and dropout would only slow it down.
    """

    initializer_range: Annotated[float, Interval(gt=0, lt=1)] = 0.02
    """Standard deviation of random weights at hidden size 1024, the size that BERT's 0.02 is meant for. It is
    scaled by √(1024/H), so that signals keep their scale at every width; with an unscaled 0.02 a student of
    width 128 learns next to nothing in its first hundred steps.
    """

    path: Annotated[str, MinLen(1)] | None = None
    """Directory or hub id of an encoder that replaces the distilled student in the later stages."""


@dataclass
class TrainConfig:
    """Optimizer, batches and learning rate schedule of a student. A candidate's θ replaces any of these by name."""

    batch_size: Annotated[int, Ge(1)] = 16
    """Blocks in a step, over all micro-batches and devices. 16 blocks of 64 tokens are the 1,024 tokens that
    the released script puts into a batch of one GPU.
    """

    accumulate: Annotated[int, Ge(1)] = 1
    """Micro-batches of a step (gradient accumulation): the same gradient, up to rounding, in less memory."""

    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """Peak learning rate of AdamW. Small, shallow students need ten times the learning rate that the released
    script uses for its 75 M parameters.
    """

    warmup_steps: Annotated[int, Ge(0)] = 20
    """Steps over which the learning rate rises linearly."""

    schedule: Annotated[str, OneOf(*SCHEDULES)] = "linear"
    """Learning rate after the warm-up: ``constant``; ``linear`` or ``cosine`` to 0 at the end of the budget;
    or ``inverse_square_root`` of the step, which needs no end.
    """

    weight_decay: Annotated[float, Ge(0)] = 0.01
    """Decoupled weight decay; biases and norms are exempt."""

    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Decay rate of AdamW's mean of gradients."""

    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.999
    """Decay rate of AdamW's mean of squared gradients."""

    epsilon: Annotated[float, Ge(0)] = 1e-8
    """AdamW's ε."""

    clip: Annotated[float, Ge(0)] = 1.0
    """Largest global norm of the gradient; 0 turns clipping off."""

    blocks: Annotated[int, Ge(1)] | None = None
    """Number of training blocks; ``null`` for all (or all with targets)."""

    heldout_blocks: Annotated[int, Ge(1)] | None = 64
    """Largest number of held-out blocks for metrics; ``null`` for all."""

    log_every: Annotated[int, Ge(1)] = 10
    """Steps between two points of the curve; each point is the mean over them."""

    evaluate_every: Annotated[int, Ge(0)] = 0
    """Steps between two held-out points of the curve; with 0 there is only the final one."""

    def check(self, key: str) -> None:
        """Refuse a batch that does not divide into equal micro-batches on one device."""
        self.check_parts(1, key)

    def check_parts(self, devices: int, key: str = "train") -> None:
        """Refuse a batch that does not divide into equal micro-batches, which would not weigh the same.

        Args:
            devices: Processes that share a step.
            key: The dotted key of these settings.

        Raises:
            ConfigurationError: The micro-batches of all devices do not divide the batch.
        """
        if self.batch_size % (self.accumulate * devices):
            shared = f" on each of {devices} devices" if devices > 1 else ""
            accepted = f"a divisor of {key}.batch_size={self.batch_size}{shared}"
            raise ConfigurationError(f"{key}.accumulate", self.accumulate, accepted)

    def rate(self, step: int, steps: float) -> float:
        """Return the learning rate of step ``step`` (from 0) of ``steps``.

        It is a function of the step alone, so that a resumed run needs no scheduler's state.

        Args:
            step: The step.
            steps: Steps in all; for a budget in seconds what is expected at the pace so far.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "inverse_square_root":
            # 1 where the warm-up ends (Vaswani et al. 2017, section 5.3).
            return self.learning_rate * math.sqrt(max(1, self.warmup_steps) / max(1, step))
        left = min(1.0, max(0.0, (steps - step) / max(1.0, steps - self.warmup_steps)))
        return self.learning_rate * (left if self.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)

    def with_theta(self, theta: Mapping[str, Any]) -> TrainConfig:
        """Return these settings with those of θ in their place.

        Raises:
            ConfigurationError: θ names a setting that is not one of training.
        """
        known = {field.name for field in fields(self)}
        for name in theta:
            if name not in known:
                raise ConfigurationError(f"search.thetas.{name}", theta[name], f"the value of one of {', '.join(sorted(known))}")
        changed = replace(self, **dict(theta))
        check_settings(changed, "train")
        return changed


@dataclass
class BudgetConfig:
    """The length of a training."""

    steps: Annotated[int, Ge(0)] = 1000
    """Steps in total, unless ``tokens`` or ``seconds`` is set; 0 writes the student as it is initialized."""

    tokens: Annotated[int, Ge(1)] | None = None
    """Tokens read in total, rounded up to complete steps. Reproducible, as steps are."""

    seconds: Annotated[float, Gt(0)] | None = None
    """Wall-clock budget of the training in seconds, summed over restarts. The number of steps depends on the
    machine and its load, so such a run is not reproducible bit for bit.
    """

    checkpoint_every: Annotated[int, Ge(1)] = 200
    """Steps between two checkpoints, from which a killed run resumes; the last two are kept."""

    def check(self, key: str) -> None:
        """Refuse two budgets."""
        if self.tokens is not None and self.seconds is not None:
            raise ConfigurationError(f"{key}.seconds", self.seconds, f"null with {key}.tokens={self.tokens}")

    def length(self, tokens_per_step: int) -> int | None:
        """Return the steps in all; ``None`` with a budget in seconds.

        Args:
            tokens_per_step: Blocks of a step times tokens of a block.
        """
        if self.seconds is not None:
            return None
        return self.steps if self.tokens is None else math.ceil(self.tokens / tokens_per_step)


@dataclass
class SpeedConfig:
    """The comparison of the distillation loop with a conventional one."""

    variants: _Variants = field(default_factory=lambda: list(SPEED_VARIANTS))
    """Any of ``usual``, ``masked``, ``cached`` and ``compiled``; the others are compared with the first."""

    student: Annotated[str, shape_or("scaled")] = "scaled"
    """The student's shape; ``scaled`` for Bort's shape scaled down as the teacher is from the paper's
    teacher.
    """

    teacher: Annotated[str, shape_or()] | None = None
    """Shape of a teacher with random weights; ``null`` for the configured teacher."""

    vocabulary: Annotated[int, Ge(16)] = 50_265
    """Vocabulary size of a teacher with random weights."""

    batch_size: Annotated[int, Ge(1)] = 16
    """Blocks in a step."""

    block_length: Annotated[int, Ge(8)] = 128
    """Tokens of a block."""

    warmup: Annotated[int, Ge(1)] = 2
    """Steps of each variant before the first round."""

    rounds: Annotated[int, Ge(2)] = 8
    """Rounds; in each, every variant runs once, in an order drawn for the round."""

    steps: Annotated[int, Ge(1)] = 2
    """Steps of one run of a variant."""

    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """Level of the intervals."""

    resamples: Annotated[int, Ge(100)] = 1000
    """Bootstrap resamples."""

    seed: int = 0
    """Seed of weights, tokens, masks, the order of the variants and the bootstrap."""
