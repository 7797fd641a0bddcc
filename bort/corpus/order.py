"""The order in which blocks are trained on: a permutation an epoch, any step computable alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bort.errors import ConfigurationError
from bort.randomness import draws, stream_keys


class BlockOrder:
    """Batches of block numbers as a function of (seed, step).

    Epochs follow each other without a gap: a batch may take the last blocks of one epoch and the first of the next, so no block is
    left out and every batch is full.

    Args:
        count: Number of blocks.
        batch_size: Blocks of a batch.
        seed: Seeds the permutations.

    Raises:
        ConfigurationError: The batch is empty or larger than the corpus.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= count:
            accepted = f"an integer in [1, {count}], as the corpus has {count} blocks" if count else "for a corpus that has blocks"
            raise ConfigurationError("train.batch_size", batch_size, accepted)
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._permutations: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the epochs [B] and the block numbers [B] of step ``step``, counted from 0."""
        first = step * self.batch_size
        places = np.arange(first, first + self.batch_size, dtype=np.int64)
        epochs, offsets = np.divmod(places, self.count)
        indices = np.empty_like(offsets)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            chosen = epochs == epoch
            indices[chosen] = self._permutation(epoch)[offsets[chosen]]
        return epochs, indices

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._permutations:
            # Two epochs are enough: a batch spans no more unless it is the whole corpus.
            for old in sorted(self._permutations)[:-1]:
                del self._permutations[old]
            keys = draws(stream_keys(self.seed, epoch), 0, self.count)[0]
            self._permutations[epoch] = np.argsort(keys, kind="stable")
        return self._permutations[epoch]
