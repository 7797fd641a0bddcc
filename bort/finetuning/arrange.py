"""From the logits of sequences to those of examples: windows are pooled, options stand beside each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Arrangement:
    """Which example of a batch, and which of its options, each sequence belongs to.

    Args:
        examples: Position of the example in the batch, [R]; every position from 0 on has a sequence.
        options: Number of the option, [R]; 0 where there are none.
        choice: Whether options are chosen from, so that each sequence has one logit.
        pooling: ``mean`` or ``max`` over the windows of one example and option.
    """

    examples: NDArray[np.int64]
    options: NDArray[np.int64]
    choice: bool = False
    pooling: str = "mean"

    def gather(self, found: Tensor) -> Tensor:
        """Returns the logits of the examples; differentiable.

        Args:
            found: Those of the sequences, [R, outputs].

        Returns:
            [B, outputs]; for a choice [B, most options], −∞ where an example has fewer.
        """
        count, width = int(self.examples.max()) + 1, int(self.options.max()) + 1
        if len(self.examples) == count and width == 1:
            return found
        cells = torch.from_numpy(self.examples * width + self.options).to(found.device)
        size = (count * width, found.shape[-1])
        windows = torch.bincount(cells, minlength=count * width)
        if self.pooling == "max":
            index = cells.unsqueeze(-1).expand_as(found)
            pooled = found.new_full(size, -torch.inf).scatter_reduce(0, index, found, "amax")
        else:
            pooled = found.new_zeros(size).index_add(0, cells, found) / windows.clamp(min=1).unsqueeze(-1)
        if not self.choice:
            return pooled
        return pooled.view(count, width).masked_fill(windows.view(count, width) == 0, -torch.inf)
