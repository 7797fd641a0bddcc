"""A teacher that runs along: its outputs are computed when a batch needs them, and nothing is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from bort.teacher.targets import targets_identity

if TYPE_CHECKING:
    from bort.corpus import Corpus, MaskingConfig
    from bort.teacher import TargetConfig, Teacher


class LiveTargets:
    """Stands where soft targets on disk would stand, for the same blocks and the same masks.

    A run is the same with either, up to the rounding of what is kept: blocks and epochs are limited as on disk.

    Args:
        teacher: Is run at every step, on the device that batches lie on.
        corpus: The blocks.
        masking: How they are masked.
        config: The kind of outputs, the blocks, and the epochs after which the masks come round again.

    Raises:
        BortError: Teacher, corpus and settings do not go together.
    """

    def __init__(self, teacher: Teacher, corpus: Corpus, masking: MaskingConfig, config: TargetConfig) -> None:
        identity = targets_identity(teacher, corpus, masking, config)
        self.teacher, self.kind = teacher, str(identity["kind"])
        self.record: dict[str, Any] = {"identity": identity}
        self.epochs: int = identity.get("epochs", 0)
        self.blocks: int = identity["blocks"]
        self.heldout_blocks: int = identity["heldout_blocks"]

    def complete(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the batch with what the teacher makes of it, under the names that stored outputs have."""
        found = []
        if self.kind != "logits" and "input_ids" in batch:
            found.append(self.teacher.targets_of(batch["input_ids"]))
        if self.kind != "representation" and "masked_ids" in batch:
            found.append(self.teacher.targets_of(batch["masked_ids"], batch["positions"]))
        made = {name: value for targets in found for name, value in vars(targets).items() if value is not None}
        return {**batch, **made}
