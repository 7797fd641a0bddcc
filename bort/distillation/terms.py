"""The terms of the distillation loss, and the configuration of their weights.

A term is a subclass of :class:`Term` and a field of :class:`LossConfig`. Everything else derives from the
two: the tensors of a batch, the targets that the teacher computes, FLOPs, held-out metrics and names in
reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from bort.architecture import Architecture
from bort.errors import ConfigurationError
from bort.settings import check_settings
from bort.teacher.config import provides

# The configuration is read by every command: torch is imported by what computes.
if TYPE_CHECKING:
    from torch import Tensor

    from bort.distillation.forward import ForwardPass
    from bort.distillation.heldout import HeldoutSums

#: What a student can read, and the tensor of a batch that holds it.
INPUTS = {"masked": "masked_ids", "unmasked": "input_ids"}


@dataclass(frozen=True)
class Sizes:
    """The sizes that the operations of a training step depend on.

    Args:
        student: The student's shape.
        teacher: The teacher's shape.
        vocabulary: Rows of the vocabulary.
        block_length: Tokens of a block.
        masked: Masked positions of a block.
    """

    student: Architecture
    teacher: Architecture
    vocabulary: int
    block_length: int
    masked: int


@dataclass(frozen=True)
class HeldoutError:
    """A held-out metric that a search can minimize.

    Args:
        name: Its name among the held-out metrics.
        targets: Kind of targets that it is computed from; ``None`` without a teacher.
        trained_by: Which weight must be above 0, because the metric of an untrained layer is noise: that of
            the ``term`` itself, or that of any term which reads the same ``input``.
    """

    name: str
    targets: str | None = None
    trained_by: Literal["term", "input"] | None = None


class Term:
    """A term of the loss. It has no state: settings are those of :class:`LossConfig`.

    Attributes:
        title: Its name in reports.
        reads: What the student reads: a key of :data:`INPUTS`.
        targets: Kind of targets that it needs (``logits`` or ``representation``); ``None`` without a teacher.
        projects: Whether it compares the student's hidden states with the teacher's, through a learned
            projection.
        normalized: Target tensor whose variance over a sample of training blocks is the term's unit.
        errors: Held-out metrics that a search can minimize.
    """

    title: ClassVar[str]
    reads: ClassVar[str]
    targets: ClassVar[str | None] = None
    projects: ClassVar[bool] = False
    normalized: ClassVar[str | None] = None
    errors: ClassVar[tuple[HeldoutError, ...]] = ()

    def loss(self, forward: ForwardPass, config: LossConfig) -> Tensor:
        """Return the term of a batch before its weight: a scalar, the mean over what it compares."""
        raise NotImplementedError

    def measure(self, forward: ForwardPass, config: LossConfig, sums: HeldoutSums) -> None:
        """Add the held-out metrics of a batch; called whenever there is the term's input, also at weight 0."""

    def operations(self, sizes: Sizes) -> tuple[int, int]:
        """Return the multiply-adds of student (forward) and teacher for a block, beside what all terms share.

        Shared are the encoders' passes, the student's masked-LM head and its projection.
        """
        return 0, 0

    def check_widths(self, config: LossConfig, student: int, teacher: int) -> None:
        """Check that the term can compare hidden states of these two widths.

        Raises:
            ConfigurationError: It cannot.
        """


#: A weight; a term of weight 0 is not computed.
Weight = Annotated[float, Ge(0)]


def weight(term: Term) -> float:
    """Return the field of :class:`LossConfig` with a term's weight, 0 by default."""
    return field(default=0.0, metadata={"term": term})


class MaskedLM(Term):
    """Cross-entropy with the masked tokens themselves."""

    title = "masked LM"
    reads = "masked"
    errors = (HeldoutError("cross_entropy", trained_by="input"),)

    def loss(self, forward: ForwardPass, config: LossConfig) -> Tensor:
        """Return the cross-entropy."""
        from bort.distillation.losses import masked_lm_cross_entropy

        return masked_lm_cross_entropy(forward.logits, forward.labels)

    def measure(self, forward: ForwardPass, config: LossConfig, sums: HeldoutSums) -> None:
        """Add accuracy and cross-entropy once the masked-LM head is trained."""
        if config.masked:
            sums.add("mlm_accuracy", forward.accuracy(forward.logits), forward.labels.numel())
            sums.add("cross_entropy", self.loss(forward, config), forward.labels.numel())


class SoftTargets(Term):
    """Cross-entropy with the teacher's distribution at masked positions, scaled by T²."""

    title = "the teacher's soft targets"
    reads = "masked"
    targets = "logits"
    errors = (HeldoutError("kl", "logits", "input"),)

    def loss(self, forward: ForwardPass, config: LossConfig) -> Tensor:
        """Return the cross-entropy with the complete or the sparse distribution."""
        from bort.distillation.losses import soft_cross_entropy, sparse_soft_cross_entropy

        if forward.teacher_logits is not None:
            return soft_cross_entropy(forward.logits, forward.teacher_logits, config.temperature)
        ids, weights = forward.batch["kept_ids"], forward.batch["kept_weights"]
        return sparse_soft_cross_entropy(forward.logits, ids, weights, config.temperature)

    def measure(self, forward: ForwardPass, config: LossConfig, sums: HeldoutSums) -> None:
        """Add the teacher's own accuracy and cross-entropy, and the divergence from it at T = 1."""
        from bort.distillation.losses import kl_divergence, masked_lm_cross_entropy, sparse_kl_divergence

        batch, labels, theirs = forward.batch, forward.labels, forward.teacher_logits
        if theirs is not None:
            sums.add("teacher_mlm_accuracy", forward.accuracy(theirs), labels.numel())
            sums.add("teacher_cross_entropy", masked_lm_cross_entropy(theirs, labels), labels.numel())
            if config.masked:
                sums.add("kl", kl_divergence(forward.logits, theirs), labels.numel())
        elif "kept_ids" in batch:
            ids = batch["kept_ids"]
            sums.add("teacher_mlm_accuracy", (ids[..., 0] == labels).double().mean(), labels.numel())
            sums.add("teacher_cross_entropy", batch["teacher_label_surprise"].mean(), labels.numel())
            if config.masked:
                weights, log_probabilities = batch["kept_weights"], batch["kept_log_probabilities"]
                sums.add("kl", sparse_kl_divergence(forward.logits, ids, weights, log_probabilities), labels.numel())

    def operations(self, sizes: Sizes) -> tuple[int, int]:
        """Count the teacher's logits."""
        return 0, sizes.masked * sizes.teacher.hidden * sizes.vocabulary


class HiddenStates(Term):
    """Mean squared error of projected last hidden states, in units of the teacher's variance."""

    title = "the teacher's hidden states"
    reads = "unmasked"
    targets = "representation"
    projects = True
    normalized = "hidden"
    errors = (HeldoutError("hidden_mse", trained_by="term"),)

    def loss(self, forward: ForwardPass, config: LossConfig) -> Tensor:
        """Return the error."""
        from bort.distillation.losses import hidden_mse

        return hidden_mse(forward.projected, forward.batch["hidden"], forward.variances.get("hidden"))

    def measure(self, forward: ForwardPass, config: LossConfig, sums: HeldoutSums) -> None:
        """Add the error if there is a trained projection."""
        if config.hidden > 0:
            sums.add_error("hidden_mse", forward.projected, forward.batch["hidden"])


class Relations(Term):
    """MiniLMv2's query, key and value relations of the last layer."""

    title = "the teacher's relations"
    reads = "unmasked"
    targets = "representation"
    errors = (HeldoutError("relation_kl", "representation"), HeldoutError("relation_cross_entropy", "representation"))

    def loss(self, forward: ForwardPass, config: LossConfig) -> Tensor:
        """Return the divergence of the relations."""
        from bort.distillation.losses import relation_loss

        return relation_loss(forward.relations, forward.teacher_relations, config.relation_heads)

    def measure(self, forward: ForwardPass, config: LossConfig, sums: HeldoutSums) -> None:
        """Add both divergences if the relation heads divide the widths."""
        from bort.distillation.losses import relation_loss

        if "layer_input" not in forward.batch:
            return
        widths = forward.hidden.shape[-1], forward.batch["layer_input"].shape[-1]
        if any(width % config.relation_heads for width in widths):
            return
        for kind in ("kl", "cross_entropy"):
            value = relation_loss(forward.relations, forward.teacher_relations, config.relation_heads, kind)
            sums.add(f"relation_{kind}", value, len(forward.input_ids))

    def operations(self, sizes: Sizes) -> tuple[int, int]:
        """Count the products of tokens, and the teacher's projections."""
        length, width = sizes.block_length, sizes.teacher.hidden
        return 3 * length**2 * sizes.student.hidden, 3 * length * width * (length + width)

    def check_widths(self, config: LossConfig, student: int, teacher: int) -> None:
        """Check that the relation heads divide both widths."""
        for whose, width in (("student", student), ("teacher", teacher)):
            if width % config.relation_heads:
                accepted = f"a divisor of the {whose}'s hidden size {width} (and of student's and teacher's alike)"
                raise ConfigurationError("loss.relation_heads", config.relation_heads, accepted)


#: Fields that every record holds; a later one is left out of an identity while it has its default.
_ALWAYS_RECORDED = ("masked_lm", "soft_targets", "hidden", "relations", "temperature", "relation_heads")


@dataclass
class LossConfig:
    """The weights of the loss terms. A term of weight 0 is not computed; at least one must be above 0."""

    masked_lm: Weight = weight(MaskedLM())
    """Weight of the cross-entropy with the masked tokens; needs no teacher."""

    soft_targets: Weight = weight(SoftTargets())
    """Weight of the cross-entropy with the teacher's distribution at masked positions, scaled by T²."""

    hidden: Weight = weight(HiddenStates())
    """Weight of the mean squared error of the last hidden states, through a learned projection, in units of
    the teacher's variance.
    """

    relations: Weight = weight(Relations())
    """Weight of MiniLMv2's query, key and value relations of the last layer."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """T of ``soft_targets``."""

    relation_heads: Annotated[int, Ge(1)] = 8
    """Relation heads, also of the held-out relation metrics; must divide the hidden size of teacher and
    student.
    """

    @classmethod
    def known(cls) -> dict[str, Term]:
        """Return every term by the name of its weight, in the order of the fields."""
        return {item.name: item.metadata["term"] for item in fields(cls) if "term" in item.metadata}

    @property
    def active(self) -> dict[str, Term]:
        """The terms of a weight above 0, by name."""
        return {name: term for name, term in self.known().items() if getattr(self, name) > 0}

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms of a weight above 0."""
        return tuple(self.active)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of targets that the terms need."""
        return tuple(sorted({term.targets for term in self.active.values() if term.targets}))

    @property
    def targets(self) -> str | None:
        """The kind of targets that serves all terms: one of ``kinds``, ``both``, or ``None`` for MLM only."""
        return ("both" if len(self.kinds) > 1 else self.kinds[0]) if self.kinds else None

    @property
    def inputs(self) -> frozenset[str]:
        """What the student reads at every step: keys of :data:`INPUTS`."""
        return frozenset(term.reads for term in self.active.values())

    @property
    def teacher_inputs(self) -> frozenset[str]:
        """What the teacher reads, at every step or once: keys of :data:`INPUTS`."""
        return frozenset(term.reads for term in self.active.values() if term.targets)

    @property
    def masked(self) -> bool:
        """Whether the student reads masked blocks, which trains its masked-LM head."""
        return "masked" in self.inputs

    @property
    def projects(self) -> bool:
        """Whether hidden states are compared through a learned projection."""
        return any(term.projects for term in self.active.values())

    def identity(self) -> dict[str, Any]:
        """Return weights and settings as records hold them; terms that are added later change no old one."""
        values = {item.name: (getattr(self, item.name), item.default) for item in fields(self)}
        return {name: value for name, (value, default) in values.items() if name in _ALWAYS_RECORDED or value != default}

    def check(self, key: str) -> None:
        """Refuse a loss without any term."""
        if not self.terms:
            raise ConfigurationError(key, "0", f"a loss with a weight > 0 for at least one of {', '.join(self.known())}")

    def changed(self, settings: Mapping[str, Any], key: str) -> LossConfig:
        """Return this loss with other settings in place of some of its own.

        Args:
            settings: Names and values.
            key: Where they stand in the configuration.

        Raises:
            ConfigurationError: A name is not a setting of the loss, or the changed loss is invalid.
        """
        known = {item.name for item in fields(self)}
        for name, value in settings.items():
            if name not in known:
                raise ConfigurationError(f"{key}.{name}", value, f"the value of one of {', '.join(sorted(known))}")
        changed = replace(self, **dict(settings))
        check_settings(changed, "loss")
        return changed

    def check_widths(self, student: int, teacher: int) -> None:
        """Check that every term can compare hidden states of these two widths.

        Raises:
            ConfigurationError: One of them cannot.
        """
        for term in self.active.values():
            term.check_widths(self, student, teacher)

    def check_error(self, name: str, kind: str | None) -> None:
        """Check that training by this loss yields a held-out metric that a search can minimize.

        Args:
            name: The metric.
            kind: The kind of the targets; ``None`` without.

        Raises:
            ConfigurationError: There is no such metric, or a weight or the targets are missing.
        """
        terms = self.known()
        errors = {error.name: (own, error) for own, term in terms.items() for error in term.errors}
        if name not in errors:
            raise ConfigurationError("error.measure", name, f"one of {', '.join(errors)}")
        own, error = errors[name]
        needed = []
        if error.trained_by:
            names = [own] if error.trained_by == "term" else [one for one in terms if terms[one].reads == terms[own].reads]
            if not any(getattr(self, one) > 0 for one in names):
                needed.append(f"{' or '.join(f'loss.{one}' for one in names)} above 0")
        if error.targets and not provides(kind, error.targets):
            needed.append(f"targets of kind {error.targets} or both")
        if needed:
            raise ConfigurationError("error.measure", name, f"another metric: this one needs {', and '.join(needed)}")
