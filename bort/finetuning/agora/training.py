"""One training of Agora: the loop of fine-tuning, for a number of steps, towards class probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bort.finetuning.agora.embedding import compact, expand
from bort.finetuning.batches import BatchSchedule
from bort.finetuning.classifier import Classifier
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.module import Reporting
from bort.finetuning.objective import ProbabilityObjective
from bort.finetuning.train import TrainingResult, seeded, train_best_epoch, training_cost
from bort.finetuning.workspace import Workspace
from bort.model_facts import first_output
from bort.observer import Observer, Quiet
from bort.tasks.task import Example


@dataclass(frozen=True)
class Training:
    """The inputs of the training of one student.

    Args:
        workspace: The trainer's, with the train examples; see :meth:`Trainer.on`.
        targets: Class probabilities of its train examples, [N, C].
        theta: Settings that replace the trainer's.
        seed: Of head, order and dropout.
        steps: Optimizer steps.
        start: Initial weights; those of the encoder and a fresh head if ``None``.
    """

    workspace: Workspace
    targets: NDArray[np.float64]
    theta: Mapping[str, Any]
    seed: int
    steps: int
    start: Mapping[str, Tensor] | None = None


class Trainer:
    """Trains students of one encoder on one task.

    Args:
        workspace: Encoder and task; the task's held-out examples are never read.
        config: Defaults of θ.
        steps: Of a training; rounded up to whole stretches.
        judgements: Stretches of a training, after each of which steering examples are scored.
    """

    def __init__(self, workspace: Workspace, config: FinetuningConfig, *, steps: int, judgements: int) -> None:
        self.workspace, self._config, self._judgements = workspace, config, judgements
        stretch, epochs = self._length(steps)
        self.steps = stretch * epochs

    def _length(self, steps: int) -> tuple[int, int]:
        """Return the steps of a stretch and the number of stretches of a training of at least so many steps."""
        stretch = math.ceil(steps / min(self._judgements, steps))
        return stretch, math.ceil(steps / stretch)

    def on(self, examples: Sequence[Example]) -> Workspace:
        """Return the workspace with other train examples."""
        return self.workspace.with_train(examples)

    def train(self, training: Training, label: str, observer: Observer | None = None) -> TrainingResult:
        """Train one student; its curve is not reported: those of dozens of short trainings would bury Agora's own."""
        workspace, seed = training.workspace, training.seed
        stretch, epochs = self._length(training.steps)
        config = replace(self._config.with_theta(training.theta), epochs=epochs, patience=None)
        occurring = np.unique(np.concatenate([workspace.splits[split].fields["input_ids"] for split in ("train", "steering")]))
        reporting = Reporting(label, ProgressOnly(observer or Quiet()))
        with training_cost() as cost, seeded(seed, workspace.impl.threads):
            classifier = Classifier(workspace, config, seed)
            if training.start is not None:
                classifier.model.load_state_dict(dict(training.start))
            compact(classifier.model, occurring)
            schedule = BatchSchedule(classifier.train_split.sizes, config.batch_size, seed, epochs, stretch)
            objective = ProbabilityObjective(training.targets)
            result = train_best_epoch(classifier, objective, schedule, reporting, heldout=False)
        result.record |= cost
        expand(result.model)
        return result

    def logits(self, model: Any, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Return a trained model's logits for examples in their order, [N, C]."""
        data = self.workspace.encoded(examples)
        return data.logits(self.workspace.task.outputs, lambda indices: first_output(model, data.batch(indices)))


class ProgressOnly:
    """An observer that passes progress and warnings on, but no metrics.

    Args:
        onward: Receives them.
    """

    def __init__(self, onward: Observer) -> None:
        self.progress, self.warn = onward.progress, onward.warn

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Ignore metrics."""
