"""The settings of a teacher and of its soft targets."""

from __future__ import annotations

from dataclasses import dataclass

from bort.errors import ConfigurationError

#: What of the teacher is kept: its last layer's representations, or what its logits at the masked positions come from.
KINDS = ("representation", "logits")
DTYPES = ("float16", "float32")
#: The families that can teach, by transformers' ``model_type``, and the family of the student that learns from each.
FAMILIES = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "camembert": "roberta"}


@dataclass
class TeacherConfig:
    """Which encoder teaches.

    Args:
        name: The teacher's name in records and reports.
        path: A directory in the layout of transformers, or a hub id (``owner/name``).
        revision: For a hub id, the commit that is read.
    """

    name: str = "directory"
    path: str = ""
    revision: str | None = None

    def check(self) -> None:
        """Checks that a teacher is named.

        Raises:
            ConfigurationError: There is no path.
        """
        if not self.path:
            raise ConfigurationError("teacher.path", self.path, "name a directory in the layout of transformers, or a hub id")

    def check_family(self, model_type: str) -> None:
        """Checks that a model of transformers' ``model_type`` can teach.

        Raises:
            ConfigurationError: It is of no family whose last layer and head are known.
        """
        if model_type not in FAMILIES:
            accepted = f"it is a '{model_type}' model, and models of these types can teach: {', '.join(FAMILIES)}"
            raise ConfigurationError("teacher.path", self.path, accepted)


@dataclass
class TargetConfig:
    """Which soft targets are kept, and for how many blocks.

    Args:
        kind: ``representation`` keeps the last hidden state and the last layer's input at every position of the unmasked block;
            ``logits`` keeps the head's transformed hidden state at the masked positions of the masked block.
        blocks: So many of the first train blocks; null for all.
        heldout_blocks: So many of the first held-out blocks; null for all.
        epochs: For ``logits``, the epochs whose masks are covered. Representations do not depend on the epoch.
        dtype: ``float16`` or ``float32``.
    """

    kind: str = "representation"
    blocks: int | None = None
    heldout_blocks: int | None = None
    epochs: int = 1
    dtype: str = "float16"

    def check(self) -> None:
        """Checks every value on its own.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if self.kind not in KINDS:
            raise ConfigurationError("targets.kind", self.kind, f"use one of {', '.join(KINDS)}")
        if self.blocks is not None and self.blocks < 1:
            raise ConfigurationError("targets.blocks", self.blocks, "null or a whole number of at least 1 is accepted")
        if self.heldout_blocks is not None and self.heldout_blocks < 0:
            raise ConfigurationError(
                "targets.heldout_blocks", self.heldout_blocks, "null or a whole number of at least 0 is accepted"
            )
        if self.epochs < 1:
            raise ConfigurationError("targets.epochs", self.epochs, "a whole number of at least 1 is accepted")
        if self.dtype not in DTYPES:
            raise ConfigurationError("targets.dtype", self.dtype, f"use one of {', '.join(DTYPES)}")
