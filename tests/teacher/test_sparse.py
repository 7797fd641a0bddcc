from __future__ import annotations

import pytest
import torch

from bort.distillation.losses import soft_cross_entropy, sparse_kl_divergence, sparse_soft_cross_entropy
from bort.errors import ConfigurationError
from bort.teacher.sparse import SparseLogits, sparsify

VOCABULARY = 60


def some_logits(rows: int = 4, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def drawn(logits: torch.Tensor, uniforms: torch.Tensor, top: int, samples: int, temperature: float = 2.0) -> SparseLogits:
    return sparsify(logits, torch.arange(len(logits)) % VOCABULARY, uniforms, top, samples, temperature)


@pytest.mark.parametrize(("top", "samples"), [(1, 1), (4, 3), (20, 8)])
@pytest.mark.parametrize("temperature", [2.0, 1.0])
def test_loss_and_gradient_are_exact_on_average(top: int, samples: int, temperature: float):
    # The one uniform number a row has runs through [0, 1) in equal strides: its average is an integral, not a noisy estimate.
    teacher, count = some_logits(), 2000
    student = some_logits(seed=1).requires_grad_(True)
    exact = soft_cross_entropy(student.double(), teacher.double(), temperature)
    (gradient,) = torch.autograd.grad(exact, student)
    uniforms = ((torch.arange(count, dtype=torch.float64) + 0.5) / count).repeat_interleave(len(teacher))
    kept = drawn(teacher.repeat(count, 1), uniforms, top, samples)
    estimate = sparse_soft_cross_entropy(
        student.double().repeat(count, 1), kept.ids, kept.weights(temperature).double(), temperature
    )
    (estimated,) = torch.autograd.grad(estimate, student)
    assert float(estimate.detach()) == pytest.approx(float(exact.detach()), rel=2e-3)
    torch.testing.assert_close(estimated, gradient, rtol=0, atol=4e-3 * float(gradient.abs().max()))


def test_a_single_draw_is_off_and_dropping_the_tail_stays_off():
    teacher, student = some_logits(64), some_logits(64, seed=1)
    exact = float(soft_cross_entropy(student, teacher, 2.0))
    kept = drawn(teacher, torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), 4, 4)
    whole = kept.weights(2.0)
    estimate = float(sparse_soft_cross_entropy(student, kept.ids, whole, 2.0))
    truncated = float(sparse_soft_cross_entropy(student, kept.ids[:, :4], whole[:, :4] / whole[:, :4].sum(-1, True), 2.0))
    assert abs(estimate - exact) < 0.25 * abs(truncated - exact)


def test_the_weights_are_the_probabilities_and_sum_to_one():
    logits = some_logits()
    kept = drawn(logits, torch.full((4,), 0.3, dtype=torch.float64), 5, 7)
    probabilities = torch.softmax(logits.double() / 2.0, dim=-1)
    weights = kept.weights(2.0)
    torch.testing.assert_close(weights[:, :5].double(), probabilities.gather(1, kept.ids[:, :5]), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4))
    assert torch.equal(kept.ids[:, :5], logits.topk(5).indices)
    # The draws are of the tail alone.
    assert not (kept.ids[:, 5:, None] == kept.ids[:, None, :5]).any()
    torch.testing.assert_close(kept.log_probabilities(1.0), torch.log_softmax(logits, -1).gather(1, kept.ids), rtol=1e-5, atol=1e-5)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(4), reduction="none")
    torch.testing.assert_close(kept.label_surprise(), expected)


def test_all_logits_kept_give_the_exact_divergence():
    teacher, student = some_logits(), some_logits(seed=1)
    kept = drawn(teacher, torch.zeros(4, dtype=torch.float64), VOCABULARY - 1, 1)
    expected = torch.nn.functional.kl_div(
        torch.log_softmax(student.double(), -1), torch.log_softmax(teacher.double(), -1), log_target=True, reduction="batchmean"
    )
    found = sparse_kl_divergence(student.double(), kept.ids, kept.weights(1.0).double(), kept.log_probabilities(1.0).double())
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_classes_without_probability_are_never_drawn():
    logits = some_logits()
    logits[:, 40:] = -torch.inf
    for uniform in (0.0, 0.5, 1 - 2**-53):
        kept = drawn(logits, torch.full((4,), uniform, dtype=torch.float64), 3, 50)
        assert int(kept.ids.max()) < 40
        assert torch.isfinite(kept.weights(2.0)).all()


def test_a_teacher_that_is_sure_has_no_tail():
    logits = torch.full((1, VOCABULARY), -1e4)
    logits[0, 7] = 0.0
    kept = drawn(logits, torch.zeros(1, dtype=torch.float64), 1, 3)
    torch.testing.assert_close(kept.weights(2.0), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert torch.isfinite(kept.weights(1.0)).all()


def test_another_temperature_than_the_draws_is_refused():
    kept = drawn(some_logits(), torch.zeros(4, dtype=torch.float64), 3, 3)
    with pytest.raises(ConfigurationError, match=r"loss\.temperature=3.0 is invalid.*drawn for 2.*targets\.temperature"):
        kept.weights(3.0)
