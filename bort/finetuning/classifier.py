"""One model in training or under evaluation in a workspace."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.finetuning.config import FinetuningConfig
from bort.finetuning.encode import Encoded
from bort.finetuning.model import FrozenBottom, set_dropout, start_head
from bort.finetuning.scoring import predict_from_logits
from bort.finetuning.workspace import Workspace
from bort.model_facts import first_output
from bort.tasks.metrics import score


class Classifier:
    """A copy of a workspace's model with a fresh head; its frozen layers are cut off while their outputs are cached.

    Args:
        workspace: Encoder and task.
        config: With θ in place.
        seed: Determines the head's first values.
    """

    def __init__(self, workspace: Workspace, config: FinetuningConfig, seed: int) -> None:
        self.workspace, self.config, self.seed = workspace, config, seed
        self.model = workspace.model()
        self._frozen = FrozenBottom(self.model, config.freeze) if config.freeze else None
        self._cached = self._frozen is not None and workspace.bottom(config.freeze, "train") is not None
        if self._frozen is not None and self._cached:
            self._frozen.detach_bottom()
        start_head(self.model, workspace.fresh, seed)
        set_dropout(self.model, config.dropout)
        self.train()

    @property
    def train_split(self) -> Encoded:
        """The train examples."""
        return self.workspace.splits["train"]

    def train(self) -> None:
        """Switch dropout on, except in the frozen layers."""
        self.model.train()
        if self._frozen is not None:
            self._frozen.still()

    def forward(self, split: str, sequences: NDArray[np.int64]) -> Tensor:
        """Return the logits of some sequences of a split, [B, outputs]."""
        data = self.workspace.splits[split]
        inputs = {name: value.to(self.workspace.device) for name, value in data.batch(sequences).items()}
        if self._frozen is not None and self._cached:
            tokens = self.workspace.bottom(self.config.freeze, split)
            assert tokens is not None
            mask = inputs["attention_mask"].bool()
            hidden = torch.zeros(*mask.shape, tokens.shape[-1], device=self.workspace.device)
            parts = [tokens[int(data.starts[index]) : int(data.starts[index + 1])] for index in sequences]
            hidden[mask] = torch.cat(parts).to(self.workspace.device)
            self._frozen.give(hidden)
        return first_output(self.model, inputs)

    def logits(self, split: str) -> NDArray[np.float64]:
        """Return the logits of a split, [N, outputs]; for a choice [N, most options]."""
        training = self.model.training
        self.model.eval()
        found = self.workspace.splits[split].logits(self.workspace.task.outputs, lambda sequences: self.forward(split, sequences))
        if training:
            self.train()
        return found

    def score(self, split: str, found: NDArray[np.float64] | None = None) -> dict[str, float]:
        """Return the metrics of a split, from its logits if they are known."""
        task = self.workspace.task
        found = self.logits(split) if found is None else found
        return score(task, predict_from_logits(task, found), getattr(task, split))

    def finish(self) -> Any:
        """Return the complete model on the CPU in evaluation mode."""
        if self._frozen is not None:
            self._frozen.attach_bottom()
        return self.model.cpu().eval()
