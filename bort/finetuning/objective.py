"""What fine-tuning minimises: the loss of each kind of task, and the distillation of a fine-tuned teacher's logits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def choice_loss(scores: Tensor, right: Tensor, margin: float = 0.0) -> Tensor:
    """Returns the mean of −log of the probability that a right option is chosen: a softmax over the options of one question.

    The scores of wrong options are raised by the margin first, so that the loss goes on pulling until the right ones are ahead by
    it (additive margin softmax). Of several right options any will do (marginal likelihood).

    Args:
        scores: One logit an option, [B, O]; −∞ where there is no option.
        right: Which options are right, [B, O]; at least one of each example.
        margin: In logits, at least 0.
    """
    raised = torch.where(right, scores, scores + margin)
    chosen = raised.masked_fill(~right, -torch.inf)
    return (torch.logsumexp(raised, dim=-1) - torch.logsumexp(chosen, dim=-1)).mean()


def soft_loss(scores: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Returns the mean Kullback–Leibler divergence from the teacher's softened distribution, times T² (Hinton et al. 2015).

    Args:
        scores: The student's logits, [B, C]; −∞ where there is no option.
        teacher: The teacher's, [B, C], −∞ in the same places.
        temperature: T, above 0.
    """
    absent = torch.isinf(scores)
    wanted = torch.log_softmax(teacher / temperature, dim=-1).masked_fill(absent, 0.0)
    found = torch.log_softmax(scores / temperature, dim=-1).masked_fill(absent, 0.0)
    weights = torch.softmax(teacher / temperature, dim=-1).masked_fill(absent, 0.0)
    return (weights * (wanted - found)).sum(dim=-1).mean() * temperature**2


class Objective:
    """The loss of a batch of examples.

    Args:
        kind: ``classification``, ``regression`` or ``choice``.
        labels: Class indices or targets of all train examples, [N].
        right: For a choice, which options are right, [N, most options].
        scale: For a regression, mean and standard deviation of the targets; the student learns standardised ones.
        margin: For a choice.
        teacher: A teacher's logits of all train examples, [N, C], in the order of the task's classes; for a regression its
            predictions in the units of the targets.
        temperature: At which the teacher's logits are softened.
        teacher_weight: Share of the teacher in the loss, in [0, 1]; the rest is the labels'.
    """

    def __init__(
        self,
        kind: str,
        labels: NDArray[np.float64],
        *,
        right: NDArray[np.bool_] | None = None,
        scale: tuple[float, float] | None = None,
        margin: float = 0.0,
        teacher: NDArray[np.float64] | None = None,
        temperature: float = 1.0,
        teacher_weight: float = 0.0,
    ) -> None:
        self._kind, self._labels, self._right = kind, labels, right
        self._scale, self._margin = scale or (0.0, 1.0), margin
        self._teacher, self._temperature, self._weight = teacher, temperature, teacher_weight if teacher is not None else 0.0

    def loss(self, found: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """Returns the mean loss.

        Args:
            found: Logits of some train examples, [B, C].
            indices: Which examples they are, [B].
        """
        hard = self._hard(found, indices) if self._weight < 1 else found.new_zeros(())
        if self._teacher is None or self._weight == 0:
            return hard
        wanted = torch.from_numpy(self._teacher[indices]).to(found)
        if self._kind == "regression":
            soft = functional.mse_loss(found[:, 0], self._standardised(wanted[:, 0]))
        else:
            soft = soft_loss(found, wanted[:, : found.shape[-1]], self._temperature)
        return (1 - self._weight) * hard + self._weight * soft

    def _hard(self, found: Tensor, indices: NDArray[np.int64]) -> Tensor:
        if self._kind == "choice":
            assert self._right is not None
            right = torch.from_numpy(self._right[indices, : found.shape[-1]]).to(found.device)
            return choice_loss(found, right, self._margin)
        truth = torch.from_numpy(self._labels[indices]).to(found.device)
        if self._kind == "regression":
            return functional.mse_loss(found[:, 0], self._standardised(truth).to(found.dtype))
        return functional.cross_entropy(found, truth.long())

    def _standardised(self, values: Tensor) -> Tensor:
        mean, deviation = self._scale
        return (values - mean) / deviation
