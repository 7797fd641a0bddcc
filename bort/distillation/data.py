"""The batches of a distillation as a function of the step: blocks, masks and targets."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from bort.corpus.masking import mask_blocks
from bort.corpus.order import BlockOrder
from bort.distillation.forward import Batch
from bort.distillation.setup import DistillationSetup
from bort.distillation.targets import OnlineTargets, RelationMemory
from bort.teacher.config import provides

if TYPE_CHECKING:
    from bort.teacher.sparse import SparseLogits


Integers = NDArray[np.int64]

#: Training blocks that the variance of the teacher's hidden states is taken from.
_VARIANCE_BLOCKS = 64


class BatchSource:
    """Batches of either split, with the masks and targets that the loss needs.

    Held-out batches carry all targets, whether or not the loss uses them. With an online teacher, batches
    hold only its inputs: whoever reads them computes the outputs.

    Args:
        setup: Corpus, masking, loss and targets.
        memory: Cache of the teacher's relations of training blocks.
    """

    def __init__(self, setup: DistillationSetup, memory: RelationMemory | None = None) -> None:
        self.setup, self.corpus, self.masking = setup, setup.corpus, setup.masking
        self.loss, self.targets = setup.loss, setup.targets
        self.memory = memory if setup.loss.relations > 0 else None

    def count(self, split: str, limit: int | None) -> int:
        """Return the number of blocks in use: at most ``limit``, and with targets those that have them."""
        blocks = len(self.corpus.train if split == "train" else self.corpus.heldout)
        if self.targets is not None:
            blocks = min(blocks, self.targets.blocks if split == "train" else self.targets.heldout_blocks)
        return min(blocks, limit) if limit is not None else blocks

    def training_batch(self, epochs: Integers, indices: Integers) -> Batch:
        """Return a training batch of the blocks ``indices``, each in its epoch."""
        return self._batch("train", epochs, indices, self.loss.inputs, targets=bool(self.loss.kinds))

    def heldout_batches(self, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield the held-out blocks in order, with the masks of epoch 0 and all targets.

        Args:
            rank: Index of this process, which gets every ``world``-th batch.
            world: Processes that share the work.
        """
        batch_size = self.setup.train.batch_size
        count = self.count("heldout", self.setup.train.heldout_blocks)
        terms = self.loss.known().values()
        inputs = self.loss.inputs | {term.reads for term in terms if term.targets and provides(self.setup.kind, term.targets)}
        for first in range(rank * batch_size, count, world * batch_size):
            indices = np.arange(first, min(first + batch_size, count), dtype=np.int64)
            yield self._batch("heldout", np.zeros_like(indices), indices, inputs, targets=True)

    def sample(self, inputs: Collection[str]) -> Batch:
        """Return the first training blocks with their targets: the sample that variances are measured on.

        Args:
            inputs: What the batch holds: keys of :data:`bort.distillation.terms.INPUTS`.
        """
        indices = np.arange(self.count("train", _VARIANCE_BLOCKS), dtype=np.int64)
        return self._batch("train", np.zeros_like(indices), indices, inputs, targets=True, remembered=False)

    def _batch(
        self,
        split: str,
        epochs: Integers,
        indices: Integers,
        inputs: Collection[str],
        *,
        targets: bool,
        remembered: bool = True,
    ) -> Batch:
        blocks = (self.corpus.train if split == "train" else self.corpus.heldout)[indices]
        batch: Batch = {}
        if "unmasked" in inputs:
            batch["input_ids"] = torch.from_numpy(blocks)
        if self.targets is not None and self.targets.epochs:
            # The targets cover the masks of so many epochs, which then repeat.
            epochs = epochs % self.targets.epochs
        if "masked" in inputs:
            made = mask_blocks(
                blocks, indices, epochs, self.masking, self.corpus.special, self.corpus.vocab_size, self.corpus.words
            )
            batch["masked_ids"] = torch.from_numpy(made.input_ids)
            batch["positions"] = torch.from_numpy(made.positions)
            batch["labels"] = torch.from_numpy(made.labels)
        if self.memory is not None and split == "train" and remembered:
            batch["teacher_relations"] = self.memory.take(indices)
            # The memory replaces the targets of this term.
            targets = any(term.targets for name, term in self.loss.active.items() if name != "relations")
        if targets and self.targets is not None and not isinstance(self.targets, OnlineTargets):
            there = self.targets.batch(split, indices, epochs)
            for name in ("hidden", "layer_input", "transformed"):
                value = getattr(there, name)
                if value is not None:
                    batch[name] = value
            if there.kept is not None:
                batch |= _kept(there.kept, self.loss.temperature, split == "heldout")
        return batch


def _kept(kept: SparseLogits, temperature: float, measured: bool) -> Batch:
    """Return the sparse form of logits for the loss or, if ``measured``, for the metrics at temperature 1."""
    if not measured:
        return {"kept_ids": kept.ids, "kept_weights": kept.weights(temperature)}
    return {
        "kept_ids": kept.ids,
        "kept_weights": kept.weights(1.0),
        "kept_log_probabilities": kept.log_probabilities(1.0),
        "teacher_label_surprise": kept.label_surprise(),
    }


class MicroBatches:
    """The micro-batches of one step, each computed when it is read.

    Attributes:
        waited: Seconds that the reader has waited for them.
    """

    def __init__(self, batches: Iterator[Batch], count: int) -> None:
        self._batches, self._count = batches, count
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self._count):
            started = time.perf_counter()
            batch = next(self._batches)
            self.waited += time.perf_counter() - started
            yield batch


class TrainingBatches(IterableDataset[MicroBatches]):
    """The batches of steps ``first`` to ``last`` − 1, each a function of its step alone.

    Args:
        source: Makes the batches.
        first: The first step.
        last: One after the last step; ``None`` if the reader ends the run.
        rank: Index of this process, which gets an equal share of every micro-batch.
        world: Processes that share each step.
        ahead: Whether a thread computes each batch while the one before it is in use; faster on a GPU.
    """

    def __init__(
        self, source: BatchSource, first: int, last: int | None, rank: int = 0, world: int = 1, *, ahead: bool = False
    ) -> None:
        self.source, self.first, self.last, self.rank, self.world, self.ahead = source, first, last, rank, world, ahead
        train = source.setup.train
        self.order = BlockOrder(source.count("train", train.blocks), train.batch_size, source.setup.seed)
        self.micro_batches = train.accumulate

    def __iter__(self) -> Iterator[MicroBatches]:
        batches = _ahead(self._batches()) if self.ahead else self._batches()
        for _ in self._steps():
            yield MicroBatches(batches, self.micro_batches)

    def _steps(self) -> Iterator[int]:
        return itertools.count(self.first) if self.last is None else iter(range(self.first, self.last))

    def _batches(self) -> Iterator[Batch]:
        size = self.order.batch_size // (self.micro_batches * self.world)
        for step in self._steps():
            epochs, indices = self.order.batch(step)
            for number in range(self.micro_batches):
                begin = (number * self.world + self.rank) * size
                yield self.source.training_batch(epochs[begin : begin + size], indices[begin : begin + size])


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches, with a thread that computes the next one in the meantime."""
    with ThreadPoolExecutor(max_workers=1) as helper:
        coming = helper.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = helper.submit(next, batches, None)
            yield batch
