"""The losses of distillation, done right: soft targets, masked-LM cross-entropy, hidden states and self-attention relations.

The released Bort code passed soft-maxed logits into a loss that soft-maxes again and then averaged over the vocabulary, which left
the teacher a billionth of its intended weight. Here a divergence takes logits, sums over the last dimension (the vocabulary or the
attended positions) and is averaged over everything else; the scale by T² keeps its gradient of one size as the temperature changes
(Hinton, Vinyals and Dean 2015, arXiv:1503.02531).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bort.errors import BortError


class _SoftCrossEntropy(torch.autograd.Function):
    """Mean over rows of −Σ_v softmax(t)_v · log softmax(s)_v, and its gradient in ``s``, with one saved tensor instead of three."""

    @staticmethod
    def forward(context: Any, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Returns the mean cross-entropy of the rows and keeps softmax(s) − softmax(t) for the gradient."""
        teacher = torch.softmax(teacher_logits, dim=-1)
        log_student = torch.log_softmax(student_logits, dim=-1)
        # Where the teacher gives an entry no probability it adds nothing, even if the student's log-probability is −∞.
        products = torch.where(teacher > 0, teacher * log_student, 0.0)
        context.rows = max(1, student_logits.numel() // max(1, student_logits.shape[-1]))
        if context.needs_input_grad[0]:
            context.save_for_backward(log_student.exp_().sub_(teacher))
        return products.sum().neg().div(context.rows)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        """Returns (softmax(s) − softmax(t)) / rows, times the gradient that comes from above."""
        (difference,) = context.saved_tensors
        return difference * (gradients[0] / context.rows), None


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns T² · mean over rows of −Σ_v p_T(v) · log q_T(v), with both p and q softened by the temperature T.

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
    result: Tensor = _SoftCrossEntropy.apply(student, teacher)
    return result * temperature**2


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns T² · mean over rows of Σ_v p_T(v) · (log p_T(v) − log q_T(v)), which is 0 where the student equals the teacher.

    Args:
        student_logits: ``[..., V]``, raw logits.
        teacher_logits: ``[..., V]``, raw logits of the same shape; not differentiated.
        temperature: T, above 0.

    Returns:
        A scalar in nats.

    Raises:
        BortError: The shapes differ, or the temperature is not positive.
    """
    cross_entropy = soft_cross_entropy(student_logits, teacher_logits, temperature)
    with torch.no_grad():
        entropy = entropy_of_logits(_softened(teacher_logits, temperature))
    return cross_entropy - temperature**2 * entropy


def entropy_of_logits(logits: Tensor) -> Tensor:
    """Returns the mean over rows of the entropy of softmax(``logits``), in nats; ``logits`` is ``[..., V]``."""
    return torch.special.entr(torch.softmax(logits, dim=-1)).sum(dim=-1).mean()


def masked_lm_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean cross-entropy of the masked positions' own tokens, in nats.

    Args:
        logits: ``[..., V]``, at masked positions only.
        labels: ``[...]``, token ids in 0 … V − 1.
    """
    vocabulary = logits.shape[-1]
    return functional.cross_entropy(_widened(logits).reshape(-1, vocabulary), labels.reshape(-1))


def hidden_mse(student_projected: Tensor, teacher_hidden: Tensor, variance: Tensor | None = None) -> Tensor:
    """Returns the mean squared error of hidden states in units of the teacher's variance.

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
    """Returns the variance of ``[..., H]`` hidden states over positions, averaged over the H dimensions (biased: divided by n)."""
    return hidden.flatten(0, -2).var(dim=0, correction=0).mean()


def relation_logits(vectors: Tensor, heads: int) -> Tensor:
    """Returns self-attention relations before their softmax: V_a V_aᵀ / √(H/R) for each of R relation heads a.

    Args:
        vectors: ``[B, S, H]``, the queries, keys or values of one layer.
        heads: R; it need not be the layer's number of attention heads, but must divide H.

    Returns:
        ``[B, R, S, S]``.

    Raises:
        BortError: R does not divide H.
    """
    blocks, length, hidden = vectors.shape
    if heads < 1 or hidden % heads:
        raise BortError(f"loss.relation_heads={heads} cannot be used: it must divide the hidden sizes, one of which is {hidden}.")
    width = hidden // heads
    split = vectors.reshape(blocks, length, heads, width).transpose(1, 2) * width**-0.25
    return split @ split.transpose(-1, -2)


def relation_loss(
    student: tuple[Tensor, Tensor, Tensor],
    teacher: tuple[Tensor, Tensor, Tensor],
    heads: int,
    kind: str = "kl",
) -> Tensor:
    """Returns the MiniLMv2 loss: how far the student's Q-Q, K-K and V-V relations are from the teacher's.

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
    if kind not in ("kl", "cross_entropy"):
        raise BortError(f"'{kind}' is not a kind of relation loss: use kl or cross_entropy.")
    divergence = kl_divergence if kind == "kl" else soft_cross_entropy
    total = student[0].new_zeros((), dtype=_widened(student[0]).dtype)
    for student_vectors, teacher_vectors in zip(student, teacher, strict=True):
        with torch.no_grad():
            target = relation_logits(_widened(teacher_vectors), heads)
        total = total + divergence(relation_logits(_widened(student_vectors), heads), target)
    return total / len(student)


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
        raise BortError(f"loss.temperature={temperature} cannot be used: a number above 0 is needed.")
