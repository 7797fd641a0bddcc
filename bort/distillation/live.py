"""A teacher that runs along: its outputs are computed when a batch needs them, and nothing is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
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
        self.teacher, self.kind = teacher, config.kind
        self.record: dict[str, Any] = {"identity": identity}
        self.epochs: int = identity.get("epochs", 0)
        self.blocks: int = identity["blocks"]
        self.heldout_blocks: int = identity["heldout_blocks"]

    def complete(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the batch with what the teacher makes of it, under the names that stored outputs have."""
        made: dict[str, Tensor] = {}
        if self.kind != "logits" and "input_ids" in batch:
            hidden, layer_input = self.teacher.represent(batch["input_ids"])
            # A gradient may be taken beside a copy only: the teacher's own tensors are marked as never having one.
            made["hidden"], made["layer_input"] = hidden.clone(), layer_input.clone()
        if self.kind != "representation" and "masked_ids" in batch:
            hidden, _ = self.teacher.represent(batch["masked_ids"])
            positions = batch["positions"].to(hidden.device).unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
            with torch.no_grad():
                made["transformed"] = self.teacher.transform(hidden.gather(1, positions)).clone()
        return {**batch, **made}
