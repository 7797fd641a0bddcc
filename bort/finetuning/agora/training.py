"""One training of Agora: the loop of fine-tuning, for a number of steps, towards the probabilities of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bort.finetuning.config import FinetuningConfig
from bort.finetuning.encode import evaluation_batches, training_batches
from bort.finetuning.module import FinetuningModule
from bort.finetuning.objective import Objective
from bort.finetuning.train import Trained, train_classifier
from bort.finetuning.workspace import Workspace
from bort.model_facts import first_output
from bort.observer import Observer
from bort.tasks.task import Example


class Probabilities(Objective):
    """The cross-entropy with given probabilities of classes.

    Args:
        targets: Probability of each class of each train example, [N, C].
    """

    def __init__(self, targets: NDArray[np.float64]) -> None:
        self._targets = torch.from_numpy(targets).float()

    def loss(self, found: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Returns its mean over a batch of logits, [B, C]."""
        targets = self._targets[torch.from_numpy(indices)].to(found.device)
        return -(targets * torch.log_softmax(found, dim=-1)).sum(dim=-1).mean()


class StepModule(FinetuningModule):
    """Fine-tuning whose length is a number of steps.

    Passes over the examples follow one another without a break; what the loop calls an epoch is the stretch between two scores on
    steering examples.

    Args:
        *arguments: As :class:`bort.finetuning.module.FinetuningModule` takes them.
        stretch: Steps of such an epoch.
        tokens: The tokens that occur in train and steering examples.
        start: Weights to start from instead of the encoder's and a fresh head's.
        **keywords: As it takes them.
    """

    def __init__(
        self,
        *arguments: Any,
        stretch: int,
        tokens: NDArray[np.int64],
        start: Mapping[str, Tensor] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(*arguments, **keywords)
        if start is not None:
            self.model.load_state_dict(dict(start))
        compact(self.model, tokens)
        self.batches_per_epoch = stretch
        self.steps = stretch * self.settings.epochs
        self._batches: list[NDArray[np.int64]] = []

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the batches of the current stretch; the passes are those of (seed, pass), as in fine-tuning."""
        passes = 0
        self._batches.clear()
        while len(self._batches) < self.steps:
            self._batches += training_batches(self._data.sizes, self.settings.batch_size, self._seed, passes)
            passes += 1
        first = self.current_epoch * self.batches_per_epoch
        batches = self._batches[first : first + self.batches_per_epoch]
        return DataLoader(batches, batch_size=None, collate_fn=None, shuffle=False)  # type: ignore[arg-type]


class CompactEmbedding(nn.Module):
    """The rows of a word embedding that occur, in the place of all of them.

    Of a small encoder nearly all parameters are words, of which few occur in a low-data task, and a step of the optimiser goes
    through all. Rows that do not occur have no gradient: they stay as they are, where weight decay would have shrunk them a little.

    Args:
        whole: The embedding.
        tokens: The tokens that occur, in rising order.
    """

    def __init__(self, whole: nn.Embedding, tokens: NDArray[np.int64]) -> None:
        super().__init__()
        padding = whole.padding_idx
        if padding is not None:
            tokens = np.union1d(tokens, [padding])
        places = torch.zeros(whole.num_embeddings, dtype=torch.long)
        self._tokens = torch.from_numpy(tokens)
        places[self._tokens] = torch.arange(len(tokens))
        # In a list, so that the whole embedding is no part of the module, and nobody trains or moves it.
        self._whole = [whole]
        self.rows = nn.Embedding(len(tokens), whole.embedding_dim, padding_idx=None if padding is None else int(places[padding]))
        self.rows.weight = nn.Parameter(whole.weight.detach()[self._tokens].clone())
        self.register_buffer("places", places.to(whole.weight.device), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the rows of tokens that occur."""
        found: Tensor = self.rows(self.places[tokens])  # type: ignore[index]
        return found

    def whole(self) -> nn.Embedding:
        """Returns the whole embedding with the rows as they are now."""
        embedding = self._whole[0].to(self.rows.weight.device)
        with torch.no_grad():
            embedding.weight[self._tokens] = self.rows.weight
        return embedding


def compact(model: Any, tokens: NDArray[np.int64]) -> None:
    """Puts the rows that occur in the place of a model's word embedding, where it is trained."""
    base = model.base_model
    try:
        embedding = base.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        # A frozen bottom has been taken out, and its embedding with it.
        return
    if isinstance(embedding, nn.Embedding) and embedding.weight.requires_grad:
        base.set_input_embeddings(CompactEmbedding(embedding, tokens))


def expand(model: Any) -> None:
    """Puts the whole word embedding back."""
    embedding = model.base_model.get_input_embeddings()
    if isinstance(embedding, CompactEmbedding):
        model.base_model.set_input_embeddings(embedding.whole())


class Trainer:
    """Trains models of one encoder on one task, each for the same number of steps.

    Args:
        workspace: Encoder and task; the task's held-out examples are never asked for.
        config: Defaults of θ.
        steps: Of a training unless it is given others; rounded up to whole stretches.
        judgements: Stretches of a training, after each of which steering examples are scored.
    """

    def __init__(self, workspace: Workspace, config: FinetuningConfig, *, steps: int, judgements: int) -> None:
        self.workspace, self._config, self._judgements = workspace, config, judgements
        stretch, epochs = self._length(steps)
        self.steps = stretch * epochs

    def _length(self, steps: int) -> tuple[int, int]:
        """Returns the steps of a stretch and the number of stretches of a training of at least so many steps."""
        stretch = math.ceil(steps / min(self._judgements, steps))
        return stretch, math.ceil(steps / stretch)

    def on(self, examples: Sequence[Example]) -> Workspace:
        """Returns the workspace with other train examples."""
        return self.workspace.with_train(examples)

    def train(
        self,
        workspace: Workspace,
        targets: NDArray[np.float64],
        theta: Mapping[str, Any],
        *,
        seed: int,
        label: str,
        steps: int | None = None,
        start: Mapping[str, Tensor] | None = None,
        observer: Observer | None = None,
    ) -> Trained:
        """Trains one model.

        Args:
            workspace: What :meth:`on` gave.
            targets: Probabilities of classes for its train examples, [N, C].
            theta: Settings that replace the defaults.
            seed: Of head, order and dropout.
            label: For the progress bar.
            steps: Another number of them than that of the trainer.
            start: Weights to start from.
            observer: Told of progress.
        """
        seen = [workspace.splits[split].fields["input_ids"] for split in ("train", "steering")]
        tokens = np.unique(np.concatenate(seen))
        objective = Probabilities(targets)

        def make(*arguments: Any, **keywords: Any) -> StepModule:
            keywords["objective"] = objective
            return StepModule(*arguments, stretch=stretch, tokens=tokens, start=start, **keywords)

        stretch, epochs = self._length(steps or self.steps)
        settings = replace(self._config.with_theta(theta), epochs=epochs, patience=None)
        trained = train_classifier(workspace, settings, seed=seed, label=label, observer=_Steps(observer), heldout=False, make=make)
        expand(trained.model)
        return trained

    def logits(self, model: Any, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Returns a trained model's logits for examples in their order, [N, C]."""
        data = self.workspace.encoded(examples)
        found = np.empty((len(data.lengths), self.workspace.task.outputs))
        with torch.inference_mode():
            for batch in evaluation_batches(data.lengths):
                found[batch] = first_output(model, data.batch(batch)).double().numpy()
        gathered: NDArray[np.float64] = data.pick()[1].gather(torch.from_numpy(found)).numpy()
        return gathered


class _Steps:
    """Hands on progress but no curves: those of dozens of short trainings would bury Agora's own."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        if self._observer is not None:
            self._observer.progress(label, done, total, note)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Ignores metrics."""

    def warn(self, message: str) -> None:
        if self._observer is not None:
            self._observer.warn(message)
