"""The setup of a training: one object for a distillation, the candidates of a search and a supernet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.corpus.config import MaskingConfig
from bort.distillation.config import StudentConfig, TrainConfig
from bort.distillation.terms import LossConfig, Sizes
from bort.errors import BortError, ConfigurationError
from bort.settings import check_settings
from bort.teacher.config import provides
from bort.teacher.sparse import check_temperature

if TYPE_CHECKING:
    from bort.corpus.dataset import Corpus
    from bort.distillation.targets import OnlineTargets, RelationMemory
    from bort.teacher.model import Teacher
    from bort.teacher.targets import Targets


@dataclass(frozen=True)
class DistillationSetup:
    """Everything that fixes the result of a training, except the student's shape and the budget.

    Args:
        teacher: Source of tokenizer, family and vocabulary; computes relations and logits from cached
            targets.
        corpus: The blocks.
        targets: The teacher's outputs; ``None`` for MLM only. Held-out metrics are computed from them even if
            the loss does not use them, so that a student trained without the teacher can be compared, on the
            same training blocks.
        masking: How blocks are masked.
        loss: The weights of the loss terms.
        train: The optimizer and the batches.
        student: Initialization and dropout; its ``architecture`` is ignored.
        seed: Seeds weights, order and dropout.
    """

    teacher: Teacher
    corpus: Corpus
    targets: Targets | OnlineTargets | None
    masking: MaskingConfig
    loss: LossConfig
    train: TrainConfig
    student: StudentConfig
    seed: int

    @property
    def kind(self) -> str | None:
        """The kind of the targets; ``None`` without targets."""
        return self.targets.kind if self.targets is not None else None

    @property
    def online(self) -> OnlineTargets | None:
        """The targets if an online teacher computes them; else ``None``."""
        from bort.distillation.targets import OnlineTargets

        return self.targets if isinstance(self.targets, OnlineTargets) else None

    @property
    def tokens_per_step(self) -> int:
        """Tokens that a step reads, over all micro-batches and devices."""
        return self.train.batch_size * self.corpus.block_length

    def sizes(self, architecture: Architecture) -> Sizes:
        """Return what the operations of a step depend on, for a student's shape."""
        length = self.corpus.block_length
        return Sizes(architecture, self.teacher.architecture, self.teacher.vocab_size, length, self.masking.positions(length))

    def identity(self) -> dict[str, Any]:
        """Return everything that fixes the result as plain values; cached and online targets are equal."""
        return {
            "teacher": self.teacher.digest,
            "corpus": self.corpus.digest,
            "targets": self.targets.record["identity"] if self.targets is not None else None,
            "masking": asdict(self.masking),
            "loss": self.loss.identity(),
            "train": asdict(self.train),
            "student": {name: getattr(self.student, name) for name in ("initialisation", "dropout", "initializer_range")},
            "seed": self.seed,
        }

    def check(self, architecture: Architecture, devices: int = 1) -> None:
        """Check that the parts go together for a student.

        Args:
            architecture: The student's shape.
            devices: Processes that share a step.

        Raises:
            BortError: A setting is invalid, or two of them do not go together.
        """
        check_settings(self.loss, "loss")
        check_settings(self.train, "train")
        self.train.check_parts(devices)
        if self.corpus.tokenizer_digest != self.teacher.tokenizer_digest:
            raise BortError(
                f"The corpus in {self.corpus.directory} was not tokenized with the tokenizer of the teacher {self.teacher.path}: "
                "build it again."
            )
        if self.corpus.block_length > self.teacher.positions:
            accepted = f"<= {self.teacher.positions}, the most tokens that teacher and student read"
            raise ConfigurationError("corpus.block_length", self.corpus.block_length, accepted)
        for name, term in self.loss.active.items():
            if term.targets == "logits" and not self.teacher.has_head:
                accepted = f"0, as the teacher {self.teacher.path} has no masked-LM head; use loss=representation"
                raise ConfigurationError(f"loss.{name}", getattr(self.loss, name), accepted)
        self.loss.check_widths(architecture.hidden, self.teacher.architecture.hidden)
        self._check_targets()

    def _check_targets(self) -> None:
        needed = self.loss.targets
        if needed is not None and not provides(self.kind, needed):
            available = f"the targets at hand are of kind {self.kind}" if self.kind else "there are none"
            raise ConfigurationError("loss", "+".join(self.loss.terms), f"a loss without targets of kind {needed}, as {available}")
        if "logits" in self.loss.kinds and self.targets is not None:
            check_temperature(self.targets.record["identity"], self.loss.temperature)

    def relation_memory(self, megabytes: int) -> RelationMemory | None:
        """Return a cache of the teacher's relations if the loss compares them and they are on disk and fit.

        Args:
            megabytes: Memory that the cache may take.
        """
        from bort.distillation.targets import RelationMemory
        from bort.teacher.targets import Targets

        if not isinstance(self.targets, Targets) or not self.loss.relations > 0:
            return None
        arguments = self.teacher, self.targets, self.corpus.block_length
        return RelationMemory(*arguments) if RelationMemory.bytes_needed(*arguments) <= megabytes << 20 else None
