"""What can be set about distillation: the loss, the student, the training, its budget, and how it is carried out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError

#: What a teacher has to have been run for, by the loss term that uses it.
TARGETS_OF_TERM = {"soft_targets": "logits", "hidden": "representation", "relations": "representation"}
TERMS = ("masked_lm", "soft_targets", "hidden", "relations")
#: How the learning rate goes on after the warm-up; those that lead to 0 have to know when the run ends.
SCHEDULES = ("constant", "linear", "cosine", "inverse_square_root")
ENDING_SCHEDULES = ("linear", "cosine")
#: The usual loop, and what leaves out one thing more each: see :mod:`bort.benchmarks.speed`.
SPEED_VARIANTS = ("usual", "masked", "cached", "compiled")


@dataclass
class LossConfig:
    """The weights of the loss terms; a term of weight 0 is not computed. At least one must be above 0.

    Args:
        masked_lm: Cross-entropy with the masked tokens themselves; needs no teacher.
        soft_targets: Cross-entropy with the teacher's distribution at masked positions, T²-scaled.
        hidden: Mean squared error of the last hidden states, through a learned projection, in units of the teacher's variance.
        relations: MiniLMv2 query, key and value relations of the last layer.
        temperature: T of ``soft_targets``, above 0.
        relation_heads: Relation heads; must divide the hidden size of teacher and student.
    """

    masked_lm: float = 0.0
    soft_targets: float = 0.0
    hidden: float = 0.0
    relations: float = 0.0
    temperature: float = 2.0
    relation_heads: int = 8

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms with a weight, in a fixed order."""
        return tuple(term for term in TERMS if getattr(self, term) > 0)

    @property
    def targets(self) -> str | None:
        """The kind of targets that the terms need: ``representation``, ``logits``, ``both``, or none for masked LM alone."""
        kinds = sorted({TARGETS_OF_TERM[term] for term in self.terms if term in TARGETS_OF_TERM})
        return ("both" if len(kinds) > 1 else kinds[0]) if kinds else None

    @property
    def masked(self) -> bool:
        """Whether the student reads masked blocks."""
        return self.masked_lm > 0 or self.soft_targets > 0

    @property
    def whole(self) -> bool:
        """Whether the student reads blocks as they are."""
        return self.hidden > 0 or self.relations > 0

    def check(self) -> None:
        """Refuses weights and settings that cannot be used.

        Raises:
            ConfigurationError: A weight is negative or all are 0, the temperature is not positive, or there are no relation heads.
        """
        for term in TERMS:
            if not 0 <= getattr(self, term) < math.inf:
                raise ConfigurationError(f"loss.{term}", getattr(self, term), "a weight of at least 0 is needed")
        if not self.terms:
            raise ConfigurationError("loss", "0", f"at least one of {', '.join(TERMS)} needs a weight above 0")
        if not 0 < self.temperature < math.inf:
            raise ConfigurationError("loss.temperature", self.temperature, "a number above 0 is needed")
        if self.relation_heads < 1:
            raise ConfigurationError("loss.relation_heads", self.relation_heads, "a whole number of at least 1 is needed")

    def changed(self, settings: Mapping[str, Any], key: str) -> LossConfig:
        """Returns this loss with other settings in place of some of its own.

        Args:
            settings: Names and values.
            key: Where they stand in the configuration.

        Raises:
            ConfigurationError: A name is none of a loss's, or the loss cannot be used.
        """
        known = {item.name for item in fields(self)}
        for name, value in settings.items():
            if name not in known:
                raise ConfigurationError(f"{key}.{name}", value, f"use one of {', '.join(sorted(known))}")
        changed = replace(self, **dict(settings))
        changed.check()
        return changed

    def check_widths(self, student: int, teacher: int) -> None:
        """Refuses relation heads that do not divide both hidden sizes.

        Raises:
            ConfigurationError: ``relations`` has a weight and the heads do not fit.
        """
        for whose, width in (("student", student), ("teacher", teacher)):
            if self.relations > 0 and width % self.relation_heads:
                accepted = f"it must divide the {whose}'s hidden size {width} (and student's and teacher's alike)"
                raise ConfigurationError("loss.relation_heads", self.relation_heads, accepted)


@dataclass
class StudentConfig:
    """Which student is trained, and from what it starts.

    Args:
        architecture: ``winner`` (of the search, put in by the chain) or a shape such as ``4-8-1024-768``.
        initialisation: ``random``, or ``teacher``: embeddings projected to the student's width, layers where they fit.
        dropout: Probability during training, for hidden states and attention alike.
        initializer_range: Standard deviation of random weights at hidden size 1024, where BERT's 0.02 belongs. It is scaled by
            √(1024/H), so that every width passes signals on at the same scale; with 0.02 itself a student of width 128 learns next
            to nothing in its first hundred steps.
        path: Directory or hub id of an encoder that takes the place of a distilled student in the later stages.
    """

    architecture: str = "???"
    initialisation: str = "random"
    dropout: float = 0.0
    initializer_range: float = 0.02
    path: str | None = None

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: The shape cannot be read, or the initialisation or the dropout is not known.
        """
        if self.path == "":
            raise ConfigurationError("student.path", "", "name the directory or the hub id of an encoder")
        if self.architecture != "winner":
            try:
                Architecture.parse(self.architecture)
            except BortError as error:
                raise ConfigurationError("student.architecture", self.architecture, str(error).rstrip(".")) from error
        if self.initialisation not in ("random", "teacher"):
            raise ConfigurationError("student.initialisation", self.initialisation, "use random or teacher")
        if not 0 <= self.dropout < 1:
            raise ConfigurationError("student.dropout", self.dropout, "a probability from 0 to below 1 is needed")
        if not 0 < self.initializer_range < 1:
            raise ConfigurationError("student.initializer_range", self.initializer_range, "a number above 0 and below 1 is needed")


@dataclass
class TrainConfig:
    """How the student is trained. A candidate's θ replaces any of these by name.

    Args:
        batch_size: Blocks in a step, over all parts and all devices.
        accumulate: Parts that a step's blocks are taken in, one after the other, before the weights change: the same gradient, up
            to rounding, in less memory.
        learning_rate: Peak learning rate of AdamW.
        warmup_steps: Steps over which the rate rises linearly.
        schedule: After the warm-up, ``constant``; ``linear`` or ``cosine`` to 0 at the end of the budget; or
            ``inverse_square_root`` of the step, which needs no end.
        weight_decay: Decoupled weight decay; biases and norms are spared.
        beta1: Decay of AdamW's mean of gradients.
        beta2: Decay of AdamW's mean of squared gradients.
        epsilon: AdamW's ε.
        clip: Largest global norm of the gradient; 0 leaves it as it is.
        blocks: Training blocks that are used; all there are (or all with targets) if absent.
        heldout_blocks: Held-out blocks that figures are computed on, at most; all there are if absent.
        log_every: Steps between two points of the curve; each is the mean over them.
        evaluate_every: Steps between two held-out points of the curve; 0 leaves it at the one at the end.
    """

    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    schedule: str = "linear"
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip: float = 1.0
    blocks: int | None = None
    heldout_blocks: int | None = 64
    log_every: int = 10
    evaluate_every: int = 0

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A number is out of its range, or the schedule is not known.
        """
        for name, least in (("batch_size", 1), ("accumulate", 1), ("warmup_steps", 0), ("log_every", 1), ("evaluate_every", 0)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"train.{name}", getattr(self, name), f"a whole number of at least {least} is needed")
        for name in ("blocks", "heldout_blocks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"train.{name}", value, "a whole number of at least 1, or null for all, is needed")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigurationError("train.learning_rate", self.learning_rate, "a number above 0 is needed")
        for name in ("weight_decay", "epsilon", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"train.{name}", getattr(self, name), "a number of at least 0 is needed")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"train.{name}", getattr(self, name), "a number from 0 to below 1 is needed")
        if self.schedule not in SCHEDULES:
            raise ConfigurationError("train.schedule", self.schedule, f"use one of {', '.join(SCHEDULES)}")
        self.check_parts(1)

    def check_parts(self, devices: int) -> None:
        """Refuses a batch that cannot be taken in equal parts: a part of another size would count too little or too much.

        Args:
            devices: Processes that share a step.

        Raises:
            ConfigurationError: The parts of all devices do not divide the batch.
        """
        if self.batch_size % (self.accumulate * devices):
            accepted = f"it must divide train.batch_size={self.batch_size}" + (
                f" on each of {devices} devices" if devices > 1 else ""
            )
            raise ConfigurationError("train.accumulate", self.accumulate, accepted)

    def rate(self, step: int, steps: float) -> float:
        """Returns the learning rate of step ``step`` (from 0) of ``steps``.

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
        """Returns these settings with those of θ in their place.

        Raises:
            ConfigurationError: θ names a setting that is not one of training.
        """
        known = {field.name for field in fields(self)}
        for name in theta:
            if name not in known:
                raise ConfigurationError(f"search.thetas.{name}", theta[name], f"θ may set {', '.join(sorted(known))}")
        changed = replace(self, **dict(theta))
        changed.check()
        return changed


@dataclass
class BudgetConfig:
    """How long a student is trained.

    Args:
        steps: Steps in all, where neither tokens nor seconds are given.
        tokens: Tokens read in all: as many whole steps as reach them. Reproducible, as steps are.
        seconds: Wall seconds of training, over all starts. How many steps that gives depends on the machine and on what else it
            does, so such a run is not reproducible bit for bit.
        checkpoint_every: Steps between two checkpoints, from which a killed run goes on; the last two are kept.
    """

    steps: int = 1000
    tokens: int | None = None
    seconds: float | None = None
    checkpoint_every: int = 200

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A number is below 1, or both tokens and seconds are given.
        """
        for name in ("steps", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"budget.{name}", getattr(self, name), "a whole number of at least 1 is needed")
        if self.tokens is not None and self.tokens < 1:
            raise ConfigurationError("budget.tokens", self.tokens, "a whole number of at least 1, or null, is needed")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ConfigurationError("budget.seconds", self.seconds, "a number above 0, or null, is needed")
        if self.tokens is not None and self.seconds is not None:
            raise ConfigurationError("budget.seconds", self.seconds, "only one of budget.tokens and budget.seconds can be given")

    def length(self, tokens_per_step: int) -> int | None:
        """Returns the steps in all, or nothing where the clock decides.

        Args:
            tokens_per_step: Blocks of a step times tokens of a block.
        """
        if self.seconds is not None:
            return None
        return self.steps if self.tokens is None else math.ceil(self.tokens / tokens_per_step)


@dataclass
class SpeedConfig:
    """How the distillation loop is compared with the usual one.

    Args:
        variants: Any of ``usual``, ``masked``, ``cached`` and ``compiled``; the first is what the others are compared with.
        student: Its shape; ``scaled`` for Bort's in the proportions that it has to the paper's teacher.
        teacher: The shape of a teacher of random weights; the teacher that is configured if absent.
        vocabulary: Rows of the vocabulary of a teacher of random weights.
        batch_size: Blocks in a step.
        block_length: Tokens of a block.
        warmup: Steps of each variant before the first round.
        rounds: Rounds; in each, every variant has its turn, in an order drawn for it.
        steps: Steps of a turn.
        confidence: Level of the intervals.
        resamples: Bootstrap resamples.
        seed: Seeds weights, tokens, masks, the order of the turns and the bootstrap.
    """

    variants: list[str] = field(default_factory=lambda: list(SPEED_VARIANTS))
    student: str = "scaled"
    teacher: str | None = None
    vocabulary: int = 50_265
    batch_size: int = 16
    block_length: int = 128
    warmup: int = 2
    rounds: int = 8
    steps: int = 2
    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A variant or a shape is not known, or a number is out of its range.
        """
        for name in self.variants:
            if name not in SPEED_VARIANTS:
                raise ConfigurationError("speed.variants", name, f"any of {', '.join(SPEED_VARIANTS)} are accepted")
        if not self.variants or len(set(self.variants)) < len(self.variants):
            raise ConfigurationError("speed.variants", self.variants, "at least one is needed, and each only once")
        for key, shape in (("student", None if self.student == "scaled" else self.student), ("teacher", self.teacher)):
            if shape is not None:
                try:
                    Architecture.parse(shape)
                except BortError as error:
                    raise ConfigurationError(f"speed.{key}", shape, str(error).rstrip(".")) from error
        least = {"vocabulary": 16, "batch_size": 1, "block_length": 8, "warmup": 1, "rounds": 2, "steps": 1, "resamples": 100}
        for key, smallest in least.items():
            if getattr(self, key) < smallest:
                raise ConfigurationError(f"speed.{key}", getattr(self, key), f"a whole number of at least {smallest} is needed")
        if not 0 < self.confidence < 1:
            raise ConfigurationError("speed.confidence", self.confidence, "a number between 0 and 1 is needed")
