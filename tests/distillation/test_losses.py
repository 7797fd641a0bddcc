"""Every loss against an independent float64 reference in numpy: its value, and its gradient in closed form or by differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.distillation.losses import (
    hidden_mse,
    hidden_variance,
    kl_divergence,
    masked_lm_cross_entropy,
    relation_loss,
    soft_cross_entropy,
    sparse_kl_divergence,
    sparse_soft_cross_entropy,
)
from bort.errors import BortError


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def reference(student: np.ndarray, teacher: np.ndarray, temperature: float) -> tuple[float, float, np.ndarray]:
    """Soft cross-entropy, KL and their common gradient in the student's logits: T · (q − p) / rows."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    rows = student.shape[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        cross_entropy = -(temperature**2) * np.where(p > 0, p * np.log(q), 0).sum() / rows
        entropy = -(temperature**2) * np.where(p > 0, p * np.log(p), 0).sum() / rows
    return cross_entropy, cross_entropy - entropy, temperature * (q - p) / rows


def difference_gradient(function, point: np.ndarray, step: float = 1e-6) -> np.ndarray:
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        above, below = point.copy(), point.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient


def pair(rows: int = 5, vocabulary: int = 11, seed: int = 0, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = scale * torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64)
    teacher = scale * torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("kind", ["cross_entropy", "kl"])
def test_soft_targets_match_the_reference_in_value_and_gradient(temperature: float, kind: str) -> None:
    student, teacher = pair()
    cross_entropy, kl, gradient = reference(student.detach().numpy(), teacher.numpy(), temperature)
    function = soft_cross_entropy if kind == "cross_entropy" else kl_divergence
    loss = function(student, teacher, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(cross_entropy if kind == "cross_entropy" else kl, rel=1e-12)
    np.testing.assert_allclose(student.grad.numpy(), gradient, atol=1e-14)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_teacher_known_in_part_matches_the_reference_in_value_and_gradient(temperature: float) -> None:
    student, teacher = pair()
    # Class 3 comes twice and class 7 not at all; the weights need not sum to one.
    ids = torch.tensor([[0, 3, 9, 3]]).expand(5, -1)
    weights = torch.softmax(teacher / temperature, -1).gather(1, ids) * torch.tensor([1.0, 0.5, 2.0, 0.5], dtype=torch.float64)
    loss = sparse_soft_cross_entropy(student, ids, weights, temperature)
    loss.backward()
    q, dense = softmax(student.detach().numpy() / temperature), np.zeros((5, 11))
    np.add.at(dense, (np.arange(5)[:, None], ids.numpy()), weights.numpy())
    assert loss.item() == pytest.approx(-(temperature**2) * (dense * np.log(q)).sum() / 5, rel=1e-12)
    gradient = temperature * (q * dense.sum(-1, keepdims=True) - dense) / 5
    np.testing.assert_allclose(student.grad.numpy(), gradient, atol=1e-14)
    logs = torch.log_softmax(teacher, -1).gather(1, ids)
    chosen = np.take_along_axis(softmax(student.detach().numpy()), ids.numpy(), axis=1)
    expected = (weights.numpy() * (logs.numpy() - np.log(chosen))).sum() / 5
    assert sparse_kl_divergence(student.detach(), ids, weights, logs).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["cross_entropy", "kl"])
def test_a_teacher_known_in_all_its_parts_is_the_whole_teacher(kind: str) -> None:
    student, teacher = pair()
    ids = torch.arange(11).expand(5, -1).flip(1)
    if kind == "cross_entropy":
        loss = sparse_soft_cross_entropy(student, ids, torch.softmax(teacher / 2, -1).gather(1, ids), 2.0)
        assert loss.item() == pytest.approx(soft_cross_entropy(student, teacher, 2.0).item(), rel=1e-12)
    else:
        logs = torch.log_softmax(teacher, -1).gather(1, ids)
        assert sparse_kl_divergence(student, ids, logs.exp(), logs).item() == pytest.approx(
            kl_divergence(student, teacher).item(), rel=1e-12
        )


def test_the_reference_gradient_is_the_derivative_of_the_reference_value() -> None:
    student, teacher = (tensor.detach().numpy() for tensor in pair(3, 4))
    _, _, gradient = reference(student, teacher, 2.0)
    np.testing.assert_allclose(difference_gradient(lambda s: reference(s, teacher, 2.0)[0], student), gradient, atol=1e-8)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.3, 8.0), st.integers(2, 40), st.floats(0.1, 20))
def test_soft_targets_match_the_reference_anywhere(seed: int, temperature: float, vocabulary: int, scale: float) -> None:
    student, teacher = pair(3, vocabulary, seed, scale)
    cross_entropy, kl, gradient = reference(student.detach().numpy(), teacher.numpy(), temperature)
    loss = soft_cross_entropy(student, teacher, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(cross_entropy, rel=1e-9, abs=1e-9)
    assert kl_divergence(student, teacher, temperature).item() == pytest.approx(kl, rel=1e-7, abs=1e-9)
    np.testing.assert_allclose(student.grad.numpy(), gradient, atol=1e-10)


@pytest.mark.parametrize("function", [soft_cross_entropy, kl_divergence])
def test_vocabulary_entries_with_impossible_logits_change_nothing(function) -> None:
    student, teacher = pair()
    plain = function(student, teacher, 2.0)
    plain.backward()
    never = torch.full((5, 7), -math.inf, dtype=torch.float64)
    wide = torch.cat([student.detach(), never], -1).requires_grad_()
    padded = function(wide, torch.cat([teacher, never], -1), 2.0)
    padded.backward()
    assert padded.item() == pytest.approx(plain.item(), rel=1e-14)
    np.testing.assert_allclose(wide.grad[:, :11].numpy(), student.grad.numpy(), atol=1e-16)
    assert wide.grad[:, 11:].abs().max() == 0
    assert function(wide, torch.cat([teacher, never], -1)).isfinite()


def test_a_token_that_only_the_teacher_holds_possible_costs_infinity() -> None:
    student = torch.tensor([[0.0, -math.inf]])
    assert soft_cross_entropy(student, torch.zeros(1, 2)).item() == math.inf


def test_kl_is_zero_at_the_teacher_and_the_gradient_too() -> None:
    _, teacher = pair()
    student = teacher.clone().requires_grad_()
    loss = kl_divergence(student, teacher, 3.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-14)
    assert student.grad.abs().max() < 1e-16


def test_the_temperature_scale_keeps_the_gradient_of_one_size() -> None:
    """As T grows the gradient tends to that of matching centred logits, (s − t)/V per row (Hinton et al., section 2.1)."""
    student, teacher = pair(scale=1.0)
    soft_cross_entropy(student, teacher, 1000.0).backward()
    s, t = student.detach(), teacher
    limit = ((s - s.mean(-1, keepdim=True)) - (t - t.mean(-1, keepdim=True))) / (11 * 5)
    np.testing.assert_allclose(student.grad.numpy(), limit.numpy(), atol=2e-4)


def test_the_sum_runs_over_the_vocabulary_not_its_mean() -> None:
    """The released code averaged over classes: doubling a vocabulary of equal logits halved its loss. Here it adds log 2."""
    zeros = torch.zeros(2, 10, dtype=torch.float64)
    assert soft_cross_entropy(zeros, zeros).item() == pytest.approx(math.log(10))
    assert soft_cross_entropy(zeros.repeat(1, 2), zeros.repeat(1, 2)).item() == pytest.approx(math.log(20))


def test_half_precision_is_computed_in_single() -> None:
    student, teacher = pair()
    exact = soft_cross_entropy(student.detach().half().double(), teacher.half().double(), 2.0)
    assert soft_cross_entropy(student.detach().half(), teacher.half(), 2.0).item() == pytest.approx(exact.item(), rel=1e-5)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = pair()
    teacher.requires_grad_()
    soft_cross_entropy(student, teacher, 2.0).backward()
    assert teacher.grad is None


def test_masked_lm_matches_the_reference() -> None:
    logits, _ = pair(6, 9)
    labels = torch.tensor([0, 8, 3, 3, 1, 5])
    loss = masked_lm_cross_entropy(logits, labels)
    loss.backward()
    q = softmax(logits.detach().numpy())
    assert loss.item() == pytest.approx(-np.log(q[np.arange(6), labels.numpy()]).mean(), rel=1e-12)
    one_hot = np.eye(9)[labels.numpy()]
    np.testing.assert_allclose(logits.grad.numpy(), (q - one_hot) / 6, atol=1e-15)
    wide = torch.cat([logits.detach(), torch.full((6, 3), -math.inf, dtype=torch.float64)], -1)
    assert masked_lm_cross_entropy(wide, labels).item() == pytest.approx(loss.item(), rel=1e-14)
    assert masked_lm_cross_entropy(logits.reshape(2, 3, 9), labels.reshape(2, 3)).item() == pytest.approx(loss.item())


def test_hidden_mse_matches_the_reference() -> None:
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64).requires_grad_()
    teacher = 2 * torch.randn(2, 4, 6, generator=generator, dtype=torch.float64) + torch.arange(6)
    loss = hidden_mse(student, teacher)
    loss.backward()
    s, t = student.detach().numpy(), teacher.numpy()
    variance = t.reshape(8, 6).var(axis=0).mean()
    assert hidden_variance(teacher).item() == pytest.approx(variance, rel=1e-12)
    assert loss.item() == pytest.approx(((s - t) ** 2).mean() / variance, rel=1e-12)
    np.testing.assert_allclose(student.grad.numpy(), 2 * (s - t) / s.size / variance, atol=1e-15)


def test_hidden_mse_of_the_teachers_mean_is_one() -> None:
    teacher = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mean = teacher.mean(dim=(0, 1), keepdim=True).expand_as(teacher)
    assert hidden_mse(mean, teacher).item() == pytest.approx(1, rel=1e-12)
    assert hidden_mse(teacher, teacher).item() == 0


def reference_relation(student: list[np.ndarray], teacher: list[np.ndarray], heads: int, kind: str) -> float:
    """MiniLMv2 by plain loops over Q/K/V, blocks, heads and positions."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        blocks, length, _ = s.shape
        rows = 0.0
        for b in range(blocks):
            for head in range(heads):
                distributions = []
                for vectors in (s[b], t[b]):
                    width = vectors.shape[-1] // heads
                    part = vectors[:, head * width : (head + 1) * width]
                    distributions.append(softmax(part @ part.T / math.sqrt(width)))
                q, p = distributions
                rows -= (p * np.log(q)).sum()
                if kind == "kl":
                    rows += (p * np.log(p)).sum()
        total += rows / (blocks * heads * length)
    return total / len(student)


@pytest.mark.parametrize("kind", ["kl", "cross_entropy"])
@pytest.mark.parametrize(("student_hidden", "teacher_hidden", "heads"), [(4, 6, 2), (6, 6, 3), (3, 5, 1)])
def test_relations_match_the_reference(student_hidden: int, teacher_hidden: int, heads: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    student = tuple(torch.randn(2, 3, student_hidden, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3))
    teacher = tuple(torch.randn(2, 3, teacher_hidden, generator=generator, dtype=torch.float64) for _ in range(3))
    loss = relation_loss(student, teacher, heads, kind)
    loss.backward()
    arrays, targets = [tensor.detach().numpy() for tensor in student], [tensor.numpy() for tensor in teacher]
    assert loss.item() == pytest.approx(reference_relation(arrays, targets, heads, kind), rel=1e-12)
    for index in range(3):

        def value(point: np.ndarray, index: int = index) -> float:
            changed = list(arrays)
            changed[index] = point
            return reference_relation(changed, targets, heads, kind)

        np.testing.assert_allclose(student[index].grad.numpy(), difference_gradient(value, arrays[index]), atol=1e-8)


def relation_logits(vectors: torch.Tensor, heads: int) -> torch.Tensor:
    blocks, length, hidden = vectors.shape
    split = vectors.view(blocks, length, heads, hidden // heads).transpose(1, 2)
    return split @ split.mT / math.sqrt(hidden // heads)


def test_relations_of_equal_vectors_agree() -> None:
    vectors = tuple(torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3))
    assert relation_loss(vectors, vectors, 4).item() == pytest.approx(0, abs=1e-14)
    entropy = sum(torch.special.entr(torch.softmax(relation_logits(v, 4), -1)).sum(-1).mean().item() for v in vectors) / 3
    assert relation_loss(vectors, vectors, 4, "cross_entropy").item() == pytest.approx(entropy, rel=1e-12)


def test_relations_do_not_depend_on_a_rotation_within_a_head() -> None:
    """Relations are inner products, so that any pair of widths can be compared."""
    vectors = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64))
    turned = (vectors.reshape(1, 5, 2, 4) @ rotation).reshape(1, 5, 8)
    assert relation_loss((turned,) * 3, (vectors,) * 3, 2).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4), 1.0),
        lambda: soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 3), 0.0),
        lambda: kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3), math.nan),
        lambda: hidden_mse(torch.zeros(2, 3), torch.zeros(2, 4)),
        lambda: relation_loss((torch.zeros(1, 2, 6),) * 3, (torch.zeros(1, 2, 6),) * 3, 4),
        lambda: relation_loss((torch.zeros(1, 2, 6),) * 3, (torch.zeros(1, 2, 6),) * 3, 2, "cosine"),
    ],
)
def test_what_cannot_be_compared_is_refused(call) -> None:
    with pytest.raises(BortError):
        call()
