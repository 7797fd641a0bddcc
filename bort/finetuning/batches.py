"""Batches of sequences of similar length, in an order that is a function of seed and epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.randomness import keyed_generator

#: Batches whose examples are sorted by length together: a larger pool pads less, a smaller one mixes better.
_POOL = 16

#: Tokens of a batch, padding included, if no gradient is needed.
EVALUATION_TOKENS = 4096

Batches = list[NDArray[np.int64]]


@dataclass(frozen=True)
class BatchSchedule:
    """The batches of one training.

    Args:
        sizes: Tokens of each train example, [N].
        batch_size: Examples in a batch.
        seed: Determines the order, together with the number of the pass.
        epochs: Epochs, at most.
        stretch: Steps of an epoch, whatever N; one pass over the examples if ``None``.
    """

    sizes: NDArray[np.int64]
    batch_size: int
    seed: int
    epochs: int
    stretch: int | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.stretch or self._batches_per_pass

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.batches_per_epoch * self.epochs

    def epoch(self, number: int) -> Batches:
        """Return the batches of an epoch (from 0); passes over the examples follow one another without a break."""
        skipped, first = divmod(number * self.batches_per_epoch, self._batches_per_pass)
        last = first + self.batches_per_epoch
        batches: Batches = []
        while len(batches) < last:
            batches += training_batches(self.sizes, self.batch_size, self.seed, skipped)
            skipped += 1
        return batches[first:last]

    @property
    def _batches_per_pass(self) -> int:
        return math.ceil(len(self.sizes) / self.batch_size)


def training_batches(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> Batches:
    """Return every example once, in batches of similar length whose order is drawn from (seed, epoch)."""
    generator = keyed_generator(seed, epoch)
    order = generator.permutation(len(lengths))
    batches: Batches = []
    pool = batch_size * _POOL
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def evaluation_batches(lengths: NDArray[np.int64], tokens: int = EVALUATION_TOKENS) -> Batches:
    """Return batches of similar length, each of at most ``tokens`` tokens with padding (or one sequence)."""
    order = np.argsort(lengths, kind="stable")
    batches: Batches = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted in ascending order: the next sequence is the longest so far and sets the width.
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > tokens:
            batches.append(order[start:end])
            start = end
    return batches
