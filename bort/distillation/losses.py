"""The losses of distillation, done right: soft targets, masked-LM cross-entropy, hidden states and self-attention relations.

The released Bort code passed soft-maxed logits into a loss that soft-maxes again and then averaged over the vocabulary, which left
the teacher a billionth of its intended weight. Here a divergence takes logits, sums over the last dimension (the vocabulary or the
attended positions) and is averaged over everything else; the scale by T² keeps its gradient of one size as the temperature changes
(Hinton, Vinyals and Dean 2015, arXiv:1503.02531).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bort.errors import BortError

KINDS = ("kl", "cross_entropy")


def _divergence(student_logits: Tensor, teacher_logits: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Return the divergence of softmax(t) from softmax(s), summed over rows, and its gradient in s: softmax(s) − softmax(t)."""
    log_teacher = torch.log_softmax(teacher_logits, dim=-1)
    log_student = torch.log_softmax(student_logits, dim=-1)
    teacher = log_teacher.exp()
    surprise = log_teacher.sub_(log_student) if kind == "kl" else log_student.neg()
    total = (teacher * surprise).sum()
    if total.device.type != "cpu" or not math.isfinite(float(total)):
        # An entry of probability 0 under the teacher adds nothing, even if a log-probability is −∞. This pass takes longer
        # one on a processor, where it is made only when needed; elsewhere asking would cost more than doing it.
        total = torch.where(teacher > 0, teacher * surprise, 0.0).sum()
    return total, log_student.exp_().sub_(teacher)


def _row_count(logits: Tensor) -> int:
    return max(1, logits.numel() // max(1, logits.shape[-1]))


class _Divergence(torch.autograd.Function):
    """Mean divergence of rows of logits, with one tensor saved for the gradient instead of four."""

    @staticmethod
    def forward(context: Any, student_logits: Tensor, teacher_logits: Tensor, kind: str) -> Tensor:
        """Return the mean divergence of the rows."""
        context.rows = _row_count(student_logits)
        total, gradient = _divergence(student_logits, teacher_logits, kind)
        if context.needs_input_grad[0]:
            context.save_for_backward(gradient)
        return total / context.rows

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        """Return (softmax(s) − softmax(t)) / rows, times the gradient that comes from above."""
        (gradient,) = context.saved_tensors
        return gradient * (gradients[0] / context.rows), None, None


class _RelationDivergence(torch.autograd.Function):
    """Mean divergence of a student's relations X Xᵀ from given logits; its gradient in X is (G + Gᵀ) X, where G is that in X Xᵀ."""

    @staticmethod
    def forward(context: Any, vectors: Tensor, teacher_logits: Tensor, heads: int, kind: str) -> Tensor:
        """Return the mean divergence of the rows; ``vectors`` [B, S, H], ``teacher_logits`` [B·R, S, S]."""
        split = _split_heads(vectors, heads)
        total, gradient = _divergence(split @ split.mT, teacher_logits, kind)
        rows = _row_count(teacher_logits)
        if context.needs_input_grad[0]:
            # What one factor (H/R)^−1/4 of the split leaves to be applied.
            context.scale, context.heads, context.shape = (vectors.shape[-1] // heads) ** -0.25 / rows, heads, vectors.shape
            context.save_for_backward(torch.baddbmm(gradient @ split, gradient.mT, split))
        return total / rows

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        """Return the gradient in the vectors, [B, S, H]."""
        (gradient,) = context.saved_tensors
        blocks, length, hidden = context.shape
        scaled = (gradient * (gradients[0] * context.scale)).view(blocks, context.heads, length, hidden // context.heads)
        return scaled.transpose(1, 2).reshape(context.shape), None, None, None


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² · mean over rows of −Σ_v p_T(v) · log q_T(v), with both p and q softened by the temperature T.

    Gradients flow into the student's logits alone. It differs from :func:`kl_divergence` by the teacher's entropy, which is
    constant in the student, so the gradients of the two are the same. Half-precision logits are computed in float32.

    Args:
        student_logits: ``[..., V]``, raw (never soft-maxed) logits.
        teacher_logits: ``[..., V]``, raw logits of the same shape; not differentiated.
        temperature: T, above 0.

    Returns:
        A scalar in nats, at least 0.

    Raises:
        BortError: The shapes differ, or the temperature is not positive.
    """
    _check_pair(student_logits, teacher_logits, temperature)
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits.detach(), temperature)
    result: Tensor = _Divergence.apply(student, teacher, "cross_entropy")
    return result * temperature**2


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² · mean over rows of Σ_v p_T(v) · (log p_T(v) − log q_T(v)), which is 0 where the student equals the teacher.

    Args:
        student_logits: ``[..., V]``, raw logits.
        teacher_logits: ``[..., V]``, raw logits of the same shape; not differentiated.
        temperature: T, above 0.

    Returns:
        A scalar in nats.

    Raises:
        BortError: The shapes differ, or the temperature is not positive.
    """
    _check_pair(student_logits, teacher_logits, temperature)
    student, teacher = _softened(student_logits, temperature), _softened(teacher_logits.detach(), temperature)
    result: Tensor = _Divergence.apply(student, teacher, "kl")
    return result * temperature**2


def sparse_soft_cross_entropy(student_logits: Tensor, ids: Tensor, weights: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² · mean over rows of −Σ_j w_j · log q_T(v_j): :func:`soft_cross_entropy` with a sparse teacher distribution.

    With the weights of :class:`bort.teacher.sparse.SparseLogits` value and gradient are the exact ones on average over its draws.

    Args:
        student_logits: ``[..., V]``, raw logits.
        ids: ``[..., n]``, classes in 0 … V − 1; one may come more than once.
        weights: ``[..., n]``, the share of the teacher's distribution that each represents; not differentiated.
        temperature: T, above 0.

    Raises:
        BortError: The shapes differ, or the temperature is not positive.
    """
    _check_pair(ids, weights, temperature)
    student = _softened(student_logits, temperature)
    # log q = s − log Σ exp s: only one number a row of the second part is kept for the gradient, beside the logits.
    surprise = torch.logsumexp(student, dim=-1, keepdim=True) - student.gather(-1, ids)
    return (weights.detach() * surprise).sum(dim=-1).mean() * temperature**2


def sparse_kl_divergence(student_logits: Tensor, ids: Tensor, weights: Tensor, log_probabilities: Tensor) -> Tensor:
    """Return the mean over rows of Σ_j w_j · (log p(v_j) − log q(v_j)): :func:`kl_divergence` with a sparse teacher distribution.

    Args:
        student_logits: ``[..., V]``, raw logits.
        ids: ``[..., n]``, classes in 0 … V − 1.
        weights: ``[..., n]``, what each stands for of the teacher's distribution.
        log_probabilities: ``[..., n]``, log p of each.
    """
    entropy = -(weights * log_probabilities).sum(dim=-1).mean()
    return sparse_soft_cross_entropy(student_logits, ids, weights) - entropy


def masked_lm_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the masked positions' own tokens, in nats.

    Args:
        logits: ``[..., V]``, at masked positions only.
        labels: ``[...]``, token ids in 0 … V − 1.
    """
    vocabulary = logits.shape[-1]
    return functional.cross_entropy(_widened(logits).reshape(-1, vocabulary), labels.reshape(-1))


def hidden_mse(student_projected: Tensor, teacher_hidden: Tensor, variance: Tensor | None = None) -> Tensor:
    """Return the mean squared error of hidden states in units of the teacher's variance.

    1 is what a student scores that always answers the teacher's mean; 0 is a perfect copy: one minus it is the explained variance.

    Args:
        student_projected: ``[..., H]``, the student's hidden states projected to the teacher's width.
        teacher_hidden: ``[..., H]``, not differentiated.
        variance: The teacher's variance over positions, averaged over its H dimensions; computed from ``teacher_hidden`` if absent.

    Raises:
        BortError: The shapes differ.
    """
    if student_projected.shape != teacher_hidden.shape:
        raise BortError(
            f"Hidden states of shape {list(student_projected.shape)} cannot be compared with {list(teacher_hidden.shape)}: "
            "project the student's to the teacher's width first."
        )
    target = teacher_hidden.detach()
    spread = hidden_variance(target) if variance is None else variance
    return functional.mse_loss(student_projected, target) / spread.clamp_min(torch.finfo(spread.dtype).tiny)


def hidden_variance(hidden: Tensor) -> Tensor:
    """Return the variance of ``[..., H]`` hidden states over positions, averaged over the H dimensions (biased: divided by n)."""
    rows = hidden.flatten(0, -2)
    return (rows - rows.mean(dim=0)).square_().mean()


def relation_loss(
    student: tuple[Tensor, Tensor, Tensor],
    teacher: tuple[Tensor, Tensor, Tensor],
    heads: int,
    kind: str = "kl",
) -> Tensor:
    """Return the MiniLMv2 loss: how far the student's Q-Q, K-K and V-V relations are from the teacher's.

    Each relation is a distribution over the attended positions; the divergence is summed over these, averaged over blocks, relation
    heads and attending positions, and averaged over Q, K and V (Wang et al. 2020, arXiv:2012.15828, where the three are added).
    Student and teacher may differ in hidden size and in attention heads.

    Args:
        student: Queries, keys and values ``[B, S, H]`` of the student's last layer.
        teacher: Queries, keys and values ``[B, S, H′]`` of a layer of the teacher; not differentiated.
        heads: Relation heads R, a divisor of H and of H′.
        kind: ``kl`` (0 where the relations agree) or ``cross_entropy`` (the same plus the teacher's entropy; same gradient).

    Returns:
        A scalar in nats.

    Raises:
        BortError: R does not divide one of the widths, or ``kind`` is neither.
    """
    if kind not in KINDS:
        raise BortError(f"'{kind}' is not a kind of relation loss: use {' or '.join(KINDS)}.")
    parts: list[Tensor] = []
    for student_vectors, teacher_vectors in zip(student, teacher, strict=True):
        with torch.no_grad():
            split = _split_heads(_widened(teacher_vectors), heads)
            target = split @ split.mT
        parts.append(_RelationDivergence.apply(_widened(student_vectors), target, heads, kind))
    return torch.stack(parts).mean()


def _split_heads(vectors: Tensor, heads: int) -> Tensor:
    """Return [B·R, S, H/R], scaled so that inner products come out divided by √(H/R)."""
    blocks, length, hidden = vectors.shape
    if heads < 1 or hidden % heads:
        raise BortError(f"loss.relation_heads={heads} is invalid: must be a divisor of the hidden sizes, one of which is {hidden}.")
    width = hidden // heads
    split = (vectors * width**-0.25).reshape(blocks, length, heads, width)
    return split.transpose(1, 2).reshape(blocks * heads, length, width)


def _widened(logits: Tensor) -> Tensor:
    """Sums of exponentials over a vocabulary need float32; wider types stay as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _softened(logits: Tensor, temperature: float) -> Tensor:
    wide = _widened(logits)
    return wide if temperature == 1 else wide / temperature


def _check_pair(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> None:
    if student_logits.shape != teacher_logits.shape:
        raise BortError(
            f"Logits of shape {list(student_logits.shape)} (student) and {list(teacher_logits.shape)} (teacher) "
            "cannot be compared: the two need one vocabulary."
        )
    if not temperature > 0:
        raise BortError(f"loss.temperature={temperature} is invalid: must be a number > 0.")
