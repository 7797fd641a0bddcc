"""The parts that all trainings of one model on one task share: weights, token ids, outputs of frozen layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.finetuning.batches import evaluation_batches
from bort.finetuning.encode import Encoded, encode
from bort.finetuning.model import FrozenBottom, load_encoder, longest_input
from bort.finetuning.scoring import Scorer
from bort.finetuning.setup import FinetuningSetup
from bort.observer import Observer
from bort.runtime import resolve_device
from bort.tasks.task import SPLITS, Example

#: Largest cache of a frozen bottom's outputs, in bytes; above it they are computed in every step.
_CACHE_LIMIT = 2 << 30


class Workspace:
    """Untrained weights, token ids and cached outputs, shared by all trainings of one setup, whatever their θ and seed.

    Args:
        setup: Model, task, pooling and teacher.
        observer: Receives the progress of the teacher.

    Raises:
        BortError: The model cannot be loaded, or the teacher is no classifier or has other labels than the task.
    """

    def __init__(self, setup: FinetuningSetup, observer: Observer | None = None) -> None:
        self.task, self.impl = setup.task, setup.impl
        # The teacher comes first: one that does not fit is refused before anything else is loaded.
        self._teacher = Scorer(setup.teacher, setup.task, setup.impl, observer, what="The teacher") if setup.teacher else None
        self._teacher_logits: NDArray[np.float64] | None = None
        self.device = torch.device(resolve_device(setup.impl))
        self._loaded = load_encoder(setup.model_dir, setup.task, setup.config.pooling)
        self.tokenizer, self.fresh = self._loaded.tokenizer, self._loaded.fresh
        self._length = longest_input(self._loaded.model, self.tokenizer, self.task.max_length)
        self.splits: dict[str, Encoded] = {split: self.encoded(getattr(self.task, split)) for split in SPLITS}
        self._bottoms: dict[int, dict[str, Tensor] | None] = {}

    @property
    def parameters(self) -> int:
        """Parameters of the classifier, head included."""
        return sum(value.numel() for value in self._loaded.model.parameters())

    def encoded(self, examples: Sequence[Example]) -> Encoded:
        """Return examples as this model reads them."""
        return encode(examples, self.tokenizer, self._length, self.task)

    def with_train(self, train: Sequence[Example]) -> Workspace:
        """Return a workspace of the same model and task with other train examples."""
        other = copy.copy(self)
        other.task = replace(self.task, train=train)
        other.splits = {**self.splits, "train": self.encoded(train)}
        other._bottoms, other._teacher_logits = {}, None
        return other

    @property
    def teacher_logits(self) -> NDArray[np.float64] | None:
        """The teacher's logits of the train examples, [N, outputs]; ``None`` without a teacher."""
        if self._teacher_logits is None and self._teacher is not None:
            self._teacher_logits = self._teacher.logits(self.task.train, f"teach {self.task.name}")
        return self._teacher_logits

    def model(self) -> Any:
        """Return a copy of the model as it was loaded, on the device."""
        return copy.deepcopy(self._loaded.model).to(self.device)

    def bottom(self, freeze: int, split: str) -> Tensor | None:
        """Return the frozen layers' outputs for every token of a split, [T, H]; ``None`` if they are too large to cache."""
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
