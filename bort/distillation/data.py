"""The batches of a distillation as a function of the step: blocks, masks and targets."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from bort.corpus.masking import mask_blocks
from bort.corpus.order import BlockOrder
from bort.distillation.config import LossConfig
from bort.errors import ConfigurationError
from bort.teacher.sparse import check_temperature
from bort.teacher.targets import targets_identity

if TYPE_CHECKING:
    from bort.corpus.config import MaskingConfig
    from bort.corpus.dataset import Corpus
    from bort.distillation.config import LossConfig
    from bort.runtime_config import ImplConfig
    from bort.teacher.config import TargetConfig
    from bort.teacher.model import Teacher
    from bort.teacher.sparse import SparseLogits
    from bort.teacher.targets import Targets


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


#: Tensors by name: ``input_ids`` [B, S]; ``masked_ids`` [B, S], ``positions`` and ``labels`` [B, K]; the targets' own names, and
#: ``kept_…`` [B, K, n] for logits that are kept in part;
#: ``teacher_relations`` [3, B, S, H] where they come from a memory.
Batch = dict[str, Tensor]

Integers = NDArray[np.int64]

#: Training blocks that the variance of the teacher's hidden states is taken from.
_VARIANCE_BLOCKS = 64


class BatchSource:
    """Makes batches of either split, with what a loss needs of masks and targets.

    Args:
        corpus: The blocks.
        masking: How they are masked.
        loss: Says which tensors are needed for training.
        targets: The teacher's outputs; absent for masked LM alone. Held-out batches carry them whether or not the loss uses them.
            Live ones are left to whoever uses the batch: batches then hold only what the teacher reads.
        memory: Gives the teacher's relations of training blocks, where there is one.

    Raises:
        ConfigurationError: The loss needs targets that are not there, or the corpus has no mask token for a loss that masks.
    """

    def __init__(
        self,
        corpus: Corpus,
        masking: MaskingConfig,
        loss: LossConfig,
        targets: Targets | LiveTargets | None,
        memory: RelationMemory | None = None,
    ) -> None:
        self.corpus, self.masking, self.loss, self.targets = corpus, masking, loss, targets
        self.memory = memory if loss.relations > 0 else None
        kind = targets.kind if targets is not None else None
        if loss.targets is not None and kind not in (loss.targets, "both"):
            there = f"the targets at hand are of kind {kind}" if kind else "there are none"
            raise ConfigurationError("loss", "+".join(loss.terms), f"it needs targets of kind {loss.targets}, and {there}")
        if loss.soft_targets > 0 and targets is not None:
            check_temperature(targets.record["identity"], loss.temperature)

    def count(self, split: str, limit: int | None) -> int:
        """Returns how many blocks of ``split`` are used: all, those with targets where there are targets, and at most ``limit``."""
        blocks = len(self.corpus.train if split == "train" else self.corpus.heldout)
        if self.targets is not None:
            blocks = min(blocks, self.targets.blocks if split == "train" else self.targets.heldout_blocks)
        return min(blocks, limit) if limit is not None else blocks

    def training_batch(self, epochs: Integers, indices: Integers) -> Batch:
        """Returns a training batch of the blocks ``indices``, each in its epoch."""
        return self._batch("train", epochs, indices, self.loss.whole, self.loss.masked, self.loss.targets is not None)

    def heldout_batches(self, batch_size: int, limit: int | None, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yields the held-out blocks in order, with the masks of epoch 0 and whatever targets there are.

        Args:
            batch_size: Blocks of a batch.
            limit: Blocks in all, at most.
            rank: Number of this process; it gets every ``world``-th batch.
            world: Processes that share the work.
        """
        count = self.count("heldout", limit)
        kind = self.targets.kind if self.targets is not None else None
        masked, whole = self.loss.masked or kind in ("logits", "both"), kind in ("representation", "both")
        for first in range(rank * batch_size, count, world * batch_size):
            indices = np.arange(first, min(first + batch_size, count), dtype=np.int64)
            yield self._batch("heldout", np.zeros_like(indices), indices, whole, masked, kind is not None)

    def sample(self) -> Batch:
        """Returns the first training blocks as they are, with their targets: the sample that a variance is taken from."""
        indices = np.arange(self.count("train", _VARIANCE_BLOCKS), dtype=np.int64)
        return self._batch("train", np.zeros_like(indices), indices, True, False, True, remembered=False)

    def _batch(
        self, split: str, epochs: Integers, indices: Integers, whole: bool, masked: bool, targets: bool, remembered: bool = True
    ) -> Batch:
        blocks = (self.corpus.train if split == "train" else self.corpus.heldout)[indices]
        batch: Batch = {}
        if whole:
            batch["input_ids"] = torch.from_numpy(blocks)
        if self.targets is not None and self.targets.epochs:
            # The teacher has seen so many epochs' masks; after the last of them they come round again.
            epochs = epochs % self.targets.epochs
        if masked:
            made = mask_blocks(
                blocks, indices, epochs, self.masking, self.corpus.special, self.corpus.vocab_size, self.corpus.words
            )
            batch["masked_ids"] = torch.from_numpy(made.input_ids)
            batch["positions"] = torch.from_numpy(made.positions)
            batch["labels"] = torch.from_numpy(made.labels)
        if self.memory is not None and split == "train" and remembered:
            batch["teacher_relations"] = self.memory.take(indices)
            # What the memory stands for need not be read.
            targets = self.loss.hidden > 0 or self.loss.soft_targets > 0
        if targets and self.targets is not None and not isinstance(self.targets, LiveTargets):
            there = self.targets.batch(split, indices, epochs)
            for name in ("hidden", "layer_input", "transformed"):
                value = getattr(there, name)
                if value is not None:
                    batch[name] = value
            if there.kept is not None:
                batch |= _kept(there.kept, self.loss.temperature, split == "heldout")
        return batch


def _kept(kept: SparseLogits, temperature: float, measured: bool) -> Batch:
    """Returns logits that were kept in part as the loss takes them, or as the figures at temperature 1 do."""
    if not measured:
        return {"kept_ids": kept.ids, "kept_weights": kept.weights(temperature)}
    return {
        "kept_ids": kept.ids,
        "kept_weights": kept.weights(1.0),
        "kept_log_probabilities": kept.log_probabilities(1.0),
        "teacher_label_surprise": kept.label_surprise(),
    }


class TrainingBatches(IterableDataset[Any]):
    """The batches of steps ``first`` to ``last`` − 1; each is computed from its step alone, so that any step can come first.

    Args:
        source: Makes the batches.
        order: Says which blocks a step holds.
        first: The first step.
        last: One after the last step; none where something else ends the run, by :attr:`stopped`.
        parts: Batches that a step is cut into.
        rank: Number of this process; it gets an equal share of every part.
        world: Processes that share each step.
        ahead: Whether a thread makes each batch while the one before it is in use; pays off where a GPU does the work.

    Attributes:
        stopped: Set from outside, no further step is begun.
        waited: Seconds that the caller has waited for batches.
    """

    def __init__(
        self,
        source: BatchSource,
        order: BlockOrder,
        first: int,
        last: int | None,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
        *,
        ahead: bool = False,
    ) -> None:
        self.source, self.order, self.first, self.last = source, order, first, last
        self.parts, self.rank, self.world, self.ahead = parts, rank, world, ahead
        self.stopped = False
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        made = self._made()
        with ThreadPoolExecutor(max_workers=1) as helper:
            coming = helper.submit(next, made, None) if self.ahead else None
            for count in itertools.count():
                started = time.perf_counter()
                batch = coming.result() if coming is not None else next(made, None)
                self.waited += time.perf_counter() - started
                if batch is None or (self.stopped and count % self.parts == 0):
                    return
                if self.ahead:
                    coming = helper.submit(next, made, None)
                yield batch

    def _made(self) -> Iterator[Batch]:
        size = self.order.batch_size // (self.parts * self.world)
        for step in itertools.count(self.first) if self.last is None else range(self.first, self.last):
            epochs, indices = self.order.batch(step)
            for part in range(self.parts):
                begin = (part * self.world + self.rank) * size
                yield self.source.training_batch(epochs[begin : begin + size], indices[begin : begin + size])
