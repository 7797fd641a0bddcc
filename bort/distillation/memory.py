"""The teacher's queries, keys and values, kept in memory between the candidates of a search, which all read the same blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from bort.distillation.config import ImplConfig, LossConfig
    from bort.distillation.live import LiveTargets
    from bort.teacher import Teacher
    from bort.teacher.targets import Targets


class RelationMemory:
    """Computes each training block's relation inputs once, where otherwise every candidate's every step would.

    A block's products are taken for that block alone, so that they do not depend on the company in which it was first asked for:
    a candidate that is resumed with an empty memory gets the same bits.

    Args:
        teacher: Its last layer gives queries, keys and values.
        targets: Representations of the training blocks.
        length: Tokens of a block.
    """

    def __init__(self, teacher: Teacher, targets: Targets, length: int) -> None:
        self.teacher, self.targets = teacher, targets
        # Pages are taken from the system only as they are written: blocks that are never asked for cost nothing.
        self._kept = torch.empty(targets.blocks, 3, length, teacher.architecture.hidden)
        self._known = np.zeros(targets.blocks, dtype=bool)

    @staticmethod
    def bytes_needed(teacher: Teacher, targets: Targets, length: int) -> int:
        """Returns the memory that all training blocks of ``targets`` take, in bytes."""
        return targets.blocks * 3 * length * teacher.architecture.hidden * 4

    def take(self, indices: NDArray[np.int64]) -> Tensor:
        """Returns the relation inputs of training blocks, [3, B, S, H]: queries, keys and values."""
        missing = np.unique(indices[~self._known[indices]])
        if len(missing):
            layer_input = self.targets.batch("train", missing).layer_input
            assert layer_input is not None, "a memory is made for representations only"
            with torch.no_grad():
                for row, index in enumerate(missing):
                    parts = self.teacher.relation_inputs(layer_input[row : row + 1].to(self.teacher.device))
                    self._kept[int(index)] = torch.cat(parts).cpu()
            self._known[missing] = True
        return self._kept[torch.from_numpy(indices)].transpose(0, 1)


def memory_for(
    teacher: Teacher, targets: Targets | LiveTargets | None, length: int, loss: LossConfig, impl: ImplConfig
) -> RelationMemory | None:
    """Returns a memory where the loss compares relations, their source is on disk, and they fit into ``impl.memory_megabytes``."""
    from bort.teacher.targets import Targets

    if not isinstance(targets, Targets) or not loss.relations > 0:
        return None
    fits = RelationMemory.bytes_needed(teacher, targets, length) <= impl.memory_megabytes << 20
    return RelationMemory(teacher, targets, length) if fits else None
