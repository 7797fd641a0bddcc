"""The teacher's outputs that are not only read from disk: of an online teacher, or cached in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.teacher.targets import targets_identity

if TYPE_CHECKING:
    from bort.corpus.config import MaskingConfig
    from bort.corpus.dataset import Corpus
    from bort.teacher.config import TargetConfig
    from bort.teacher.model import Teacher
    from bort.teacher.targets import Targets


class OnlineTargets:
    """The outputs of an online teacher, in place of cached ones, for the same blocks and the same masks.

    A run is the same with either, up to the rounding of the cache: blocks and epochs are limited in the same
    way.

    Args:
        teacher: Runs at every step, on the device of the batches.
        corpus: The blocks.
        masking: How they are masked.
        config: The kind of outputs, the blocks, and the epochs after which the masks repeat.

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
        """Return the batch with the teacher's outputs, under the names of cached outputs."""
        outputs = []
        if self.kind != "logits" and "input_ids" in batch:
            outputs.append(self.teacher.targets_of(batch["input_ids"]))
        if self.kind != "representation" and "masked_ids" in batch:
            outputs.append(self.teacher.targets_of(batch["masked_ids"], batch["positions"]))
        tensors = {name: value for targets in outputs for name, value in vars(targets).items() if value is not None}
        return {**batch, **tensors}


class RelationMemory:
    """A cache of each training block's relation inputs, shared by the candidates of a search.

    A block's products are computed for that block alone, so they do not depend on the batch in which it is
    first read: a candidate that is resumed with an empty memory gets the same bits.

    Args:
        teacher: Its last layer computes queries, keys and values.
        targets: Representations of the training blocks.
        length: Tokens of a block.
    """

    def __init__(self, teacher: Teacher, targets: Targets, length: int) -> None:
        self.teacher, self.targets = teacher, targets
        # The system allocates pages only as they are written: blocks that are never read cost nothing.
        self._cached = torch.empty(targets.blocks, 3, length, teacher.architecture.hidden)
        self._filled = np.zeros(targets.blocks, dtype=bool)

    @staticmethod
    def bytes_needed(teacher: Teacher, targets: Targets, length: int) -> int:
        """Return the memory that all training blocks of ``targets`` take, in bytes."""
        return targets.blocks * 3 * length * teacher.architecture.hidden * 4

    def take(self, indices: NDArray[np.int64]) -> Tensor:
        """Return the relation inputs of training blocks, [3, B, S, H]: queries, keys and values."""
        missing = np.unique(indices[~self._filled[indices]])
        if len(missing):
            layer_input = self.targets.batch("train", missing).layer_input
            assert layer_input is not None, "a memory is made for representations only"
            with torch.no_grad():
                for row, index in enumerate(missing):
                    parts = self.teacher.relation_inputs(layer_input[row : row + 1].to(self.teacher.device))
                    self._cached[int(index)] = torch.cat(parts).cpu()
            self._filled[missing] = True
        return self._cached[torch.from_numpy(indices)].transpose(0, 1)
