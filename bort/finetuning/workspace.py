"""What every training of one model on one task shares: weights, token ids, outputs of frozen layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.finetuning.config import Impl
from bort.finetuning.encode import Encoded, encode, evaluation_batches
from bort.finetuning.model import (
    FrozenBottom,
    Loaded,
    load_encoder,
    longest_input,
)
from bort.tasks.task import SPLITS, Example, Task

#: Largest cache of a frozen bottom's outputs, in bytes; above it they are computed in every step.
_CACHE_LIMIT = 2 << 30


@dataclass(frozen=True)
class Plain:
    """Settings of speed where none are given."""

    device: str = "auto"
    precision: str = "32"
    threads: int | None = None


class Workspace:
    """What every run of one model on one task shares: untrained weights, token ids, outputs of frozen layers.

    Args:
        model_dir: An encoder's directory.
        task: The task.
        pooling: ``first`` or ``mean``.
        impl: Device, precision, threads.
        teacher: Gives a fine-tuned teacher's logits of train examples, [N, outputs]; asked once, and only where they are needed.
    """

    def __init__(
        self,
        model_dir: str | Path,
        task: Task,
        pooling: str,
        impl: Impl | None = None,
        teacher: Callable[[Sequence[Example]], NDArray[np.float64]] | None = None,
    ) -> None:
        self.task, self.impl = task, impl or Plain()
        self._teacher = teacher
        self._taught: NDArray[np.float64] | None = None
        self.device = device_of(self.impl.device)
        self._loaded: Loaded = load_encoder(model_dir, task, pooling)
        self.tokenizer, self.fresh = self._loaded.tokenizer, self._loaded.fresh
        self._length = longest_input(self._loaded.model, self.tokenizer, task.max_length)
        self.splits: dict[str, Encoded] = {split: self.encoded(getattr(task, split)) for split in SPLITS}
        self._bottoms: dict[int, dict[str, Tensor] | None] = {}

    @property
    def parameters(self) -> int:
        """Parameters of the classifier, head included."""
        return sum(value.numel() for value in self._loaded.model.parameters())

    def encoded(self, examples: Sequence[Example]) -> Encoded:
        """Returns examples as this model reads them."""
        return encode(examples, self.tokenizer, self._length, self.task)

    def with_train(self, train: Sequence[Example]) -> Workspace:
        """Returns a workspace of the same loaded model and the same task with other examples to train on."""
        other = copy.copy(self)
        other.task = replace(self.task, train=train)
        other.splits = {**self.splits, "train": self.encoded(train)}
        other._bottoms, other._taught = {}, None
        return other

    @property
    def taught(self) -> NDArray[np.float64] | None:
        """The teacher's logits of the train examples, [N, outputs]; ``None`` without a teacher."""
        if self._taught is None and self._teacher is not None:
            self._taught = self._teacher(self.task.train)
        return self._taught

    def model(self) -> Any:
        """Returns a copy of the model as it was loaded, on the device."""
        return copy.deepcopy(self._loaded.model).to(self.device)

    def bottom(self, freeze: int, split: str) -> Tensor | None:
        """Returns what the frozen layers make of every token of a split, [T, H]; ``None`` where that is too large to keep."""
        if freeze not in self._bottoms:
            size = sum(int(data.starts[-1]) for data in self.splits.values()) * self._loaded.model.config.hidden_size * 4
            self._bottoms[freeze] = {} if size <= _CACHE_LIMIT else None
        cache = self._bottoms[freeze]
        if cache is None:
            return None
        if split not in cache:
            data, model = self.splits[split], self.model()
            frozen = FrozenBottom(model, freeze)
            cache[split] = torch.empty(int(data.starts[-1]), model.config.hidden_size)
            for indices in evaluation_batches(data.lengths):
                inputs = {name: value.to(self.device) for name, value in data.batch(indices).items()}
                hidden = frozen.outputs(inputs).float().cpu()
                for row, index in enumerate(indices):
                    start, end = int(data.starts[index]), int(data.starts[index + 1])
                    cache[split][start:end] = hidden[row, : end - start]
        return cache[split]


def device_of(name: str) -> torch.device:
    """Returns the device of that name; a GPU, where there is one, for ``auto``."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
