"""The loss of each kind of task, and the distillation of a fine-tuned teacher's logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


class Objective(Protocol):
    """The loss of a batch of train examples."""

    @property
    def scale(self) -> tuple[float, float] | None:
        """Mean and standard deviation that a regression's outputs are multiplied back with; ``None`` if they are logits."""

    def loss(self, found: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Return the mean loss.

        Args:
            found: Logits of some train examples, [B, C].
            indices: Their indices, [B].
        """


@dataclass(frozen=True)
class TeacherTerm:
    """The part of the loss that comes from a fine-tuned teacher.

    Args:
        logits: The teacher's, of all train examples, [N, C], in the order of the task's classes; for a regression its predictions
            in the units of the targets.
        temperature: Softens the logits, above 0.
        weight: Share of this term in the loss, in [0, 1]; the rest is the labels'.
    """

    logits: NDArray[np.float64]
    temperature: float = 1.0
    weight: float = 0.5


class TaskObjective:
    """The loss of a task's labels, mixed with a teacher's if there is one.

    A regression is learned on standardized targets.

    Args:
        kind: ``classification``, ``regression`` or ``choice``.
        labels: Class indices or targets of all train examples, [N].
        right: For a choice, the right options, [N, most options].
        margin: For a choice; see :func:`choice_loss`.
        teacher: The teacher's term.
    """

    def __init__(
        self,
        kind: str,
        labels: NDArray[np.float64],
        right: NDArray[np.bool_] | None = None,
        margin: float = 0.0,
        teacher: TeacherTerm | None = None,
    ) -> None:
        self._kind, self._labels, self._right, self._margin = kind, labels, right, margin
        self._teacher = teacher if teacher is not None and teacher.weight > 0 else None
        self.scale = (float(labels.mean()), float(labels.std()) or 1.0) if kind == "regression" else None

    def loss(self, found: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Return the mean loss of a batch of logits, [B, C]."""
        teacher = self._teacher
        if teacher is None:
            return self._hard(found, indices)
        hard = self._hard(found, indices) if teacher.weight < 1 else found.new_zeros(())
        targets = torch.from_numpy(teacher.logits[indices]).to(found)
        if self._kind == "regression":
            soft = functional.mse_loss(found[:, 0], self._standardized(targets[:, 0]))
        else:
            soft = soft_loss(found, targets[:, : found.shape[-1]], teacher.temperature)
        return (1 - teacher.weight) * hard + teacher.weight * soft

    def _hard(self, found: Tensor, indices: NDArray[np.int64]) -> Tensor:
        if self._kind == "choice":
            assert self._right is not None
            right = torch.from_numpy(self._right[indices, : found.shape[-1]]).to(found.device)
            return choice_loss(found, right, self._margin)
        labels = torch.from_numpy(self._labels[indices])
        if self._kind == "regression":
            return functional.mse_loss(found[:, 0], self._standardized(labels).to(found))
        return functional.cross_entropy(found, labels.long().to(found.device))

    def _standardized(self, values: Tensor) -> Tensor:
        assert self.scale is not None
        mean, deviation = self.scale
        return (values - mean) / deviation


class ProbabilityObjective:
    """The cross-entropy with given class probabilities.

    Args:
        targets: Probability of each class of each train example, [N, C].
    """

    scale = None

    def __init__(self, targets: NDArray[np.float64]) -> None:
        self._targets = torch.from_numpy(targets).float()

    def loss(self, found: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Return the mean loss of a batch of logits, [B, C]."""
        targets = self._targets[torch.from_numpy(indices)].to(found.device)
        return -(targets * torch.log_softmax(found, dim=-1)).sum(dim=-1).mean()


def choice_loss(scores: Tensor, right: Tensor, margin: float = 0.0) -> Tensor:
    """Return the mean of −log of the probability that a right option is chosen: a softmax over the options of one question.

    The scores of wrong options are raised by the margin first, so that the loss pulls until the right ones are ahead by it
    (additive margin softmax). Of several right options any counts (marginal likelihood).

    Args:
        scores: One logit an option, [B, O]; −∞ where there is no option.
        right: The right options, [B, O]; at least one of each example.
        margin: In logits, at least 0.
    """
    raised = torch.where(right, scores, scores + margin)
    chosen = raised.masked_fill(~right, -torch.inf)
    return (torch.logsumexp(raised, dim=-1) - torch.logsumexp(chosen, dim=-1)).mean()


def soft_loss(scores: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean Kullback–Leibler divergence from the teacher's softened distribution, times T² (Hinton et al. 2015).

    Args:
        scores: The student's logits, [B, C]; −∞ where there is no option.
        teacher: The teacher's, [B, C], −∞ in the same places.
        temperature: T, above 0.
    """
    absent = torch.isinf(scores)
    targets = torch.log_softmax(teacher / temperature, dim=-1).masked_fill(absent, 0.0)
    found = torch.log_softmax(scores / temperature, dim=-1).masked_fill(absent, 0.0)
    weights = torch.softmax(teacher / temperature, dim=-1).masked_fill(absent, 0.0)
    return (weights * (targets - found)).sum(dim=-1).mean() * temperature**2
