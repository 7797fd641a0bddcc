"""What can be set about distillation: the loss, the student, the training, its budget, and how it is carried out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError

#: What a teacher has to have been run for, by the loss term that uses it.
TARGETS_OF_TERM = {"soft_targets": "logits", "hidden": "representation", "relations": "representation"}
TERMS = ("masked_lm", "soft_targets", "hidden", "relations")


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
        """The kind of targets that the terms need: ``representation``, ``logits``, or none for masked LM alone."""
        kinds = sorted({TARGETS_OF_TERM[term] for term in self.terms if term in TARGETS_OF_TERM})
        return kinds[0] if kinds else None

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
        if self.soft_targets > 0 and self.whole:
            raise ConfigurationError(
                "loss.soft_targets",
                self.soft_targets,
                "it cannot be combined with hidden or relations, whose targets are of another kind",
            )
        if not 0 < self.temperature < math.inf:
            raise ConfigurationError("loss.temperature", self.temperature, "a number above 0 is needed")
        if self.relation_heads < 1:
            raise ConfigurationError("loss.relation_heads", self.relation_heads, "a whole number of at least 1 is needed")

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
        batch_size: Blocks in a step.
        learning_rate: Peak learning rate of AdamW.
        warmup_steps: Steps over which the rate rises linearly.
        schedule: ``constant`` after the warm-up, or ``linear`` to 0 at the last step.
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
        for name, least in (("batch_size", 1), ("warmup_steps", 0), ("log_every", 1), ("evaluate_every", 0)):
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
        if self.schedule not in ("constant", "linear"):
            raise ConfigurationError("train.schedule", self.schedule, "use constant or linear")

    def rate(self, step: int, steps: int) -> float:
        """Returns the learning rate of step ``step`` (from 0) of ``steps``.

        It is a function of the step alone, so that a resumed run needs no scheduler's state.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (steps - step) / max(1, steps - self.warmup_steps)

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
        steps: Steps in all.
        checkpoint_every: Steps between two checkpoints, from which a killed run goes on; the last two are kept.
    """

    steps: int = 1000
    checkpoint_every: int = 200

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A number is below 1.
        """
        for name in ("steps", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"budget.{name}", getattr(self, name), "a whole number of at least 1 is needed")


@dataclass
class ImplConfig:
    """How work is carried out: what changes its speed and not its result, beyond rounding.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``.
        precision: ``32``, or ``bf16`` for mixed precision on hardware that has it (on a CPU without it 400 times slower).
        threads: Processor threads; torch's own choice if absent.
        workers: Processes that tokenise.
        compile: Whether models are compiled; pays off on long runs only.
        memory_megabytes: Memory that a search may take to keep what all its candidates need of the teacher; 0 keeps nothing.
    """

    device: str = "auto"
    precision: str = "32"
    threads: int | None = None
    workers: int = 1
    compile: bool = False
    memory_megabytes: int = 1024

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A name is not known or a number is below 1.
        """
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            raise ConfigurationError("impl.device", self.device, "use auto, cpu, cuda or mps")
        if self.precision not in ("32", "bf16"):
            raise ConfigurationError("impl.precision", self.precision, "use 32 or bf16")
        if self.threads is not None and self.threads < 1:
            raise ConfigurationError("impl.threads", self.threads, "a whole number of at least 1, or null, is needed")
        if self.workers < 1:
            raise ConfigurationError("impl.workers", self.workers, "a whole number of at least 1 is needed")
        if self.memory_megabytes < 0:
            raise ConfigurationError("impl.memory_megabytes", self.memory_megabytes, "a whole number of at least 0 is needed")
