"""The estimator: one answer a rung, the difference paid, divergence as NaN, and the same answer asked again or after a kill."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bort.architecture import Architecture
from bort.distillation.config import StudentConfig, TrainConfig
from bort.distillation.estimator import DistillEstimator
from bort.distillation.targets import RelationMemory
from bort.distillation.terms import LossConfig
from bort.errors import BortError, ConfigurationError, RecordError
from bort.runtime_config import ImplConfig

SHAPE = Architecture(1, 2, 8, 12)
LOSS = LossConfig(hidden=1.0, relations=1.0, relation_heads=2)


def estimator(world, measure: str = "relation_kl", loss: LossConfig = LOSS, rungs=(4, 8), **changes) -> DistillEstimator:
    return DistillEstimator(rungs=rungs, measure=measure, **world.arguments(loss, **changes))


def test_climbing_a_rung_costs_the_difference_and_ends_where_a_straight_climb_does(world, tmp_path: Path, listener) -> None:
    one = estimator(world)
    low = one.evaluate(SHAPE, {}, 4, tmp_path / "a", listener)
    assert [path.name for path in (tmp_path / "a" / "checkpoints").iterdir()] == ["step-000000004.safetensors"]
    high = one.evaluate(SHAPE, {}, 8, tmp_path / "a", listener)
    assert listener.steps == list(range(1, 9))
    straight = one.evaluate(SHAPE, {}, 8, tmp_path / "b", listener)
    assert high.error == straight.error == straight.metrics["relation_kl"]
    assert high.error < low.error
    assert (low.tokens, high.tokens, straight.tokens) == (4 * 48, 4 * 48, 8 * 48)
    assert low.processor_seconds > 0
    assert Path(high.checkpoint, "model.safetensors").exists()
    assert not list((tmp_path / "a" / "checkpoints").iterdir())


def test_an_answer_once_given_is_given_again_without_training(world, tmp_path: Path, listener) -> None:
    first = estimator(world).evaluate(SHAPE, {}, 8, tmp_path, listener)
    seen = len(listener.steps)
    assert estimator(world).evaluate(SHAPE, {}, 8, tmp_path, listener) == first
    assert len(listener.steps) == seen


def test_theta_replaces_settings_and_the_rate_is_constant(world, tmp_path: Path, listener) -> None:
    linear = estimator(world, train=TrainConfig(batch_size=4, schedule="linear", log_every=1, heldout_blocks=None, warmup_steps=2))
    linear.evaluate(SHAPE, {"learning_rate": 0.25}, 4, tmp_path / "a", listener)
    assert [values["learning_rate"] for _, values in listener.points if "loss" in values] == [0.125, 0.25, 0.25, 0.25]
    with pytest.raises(RecordError, match="a candidate of other settings"):
        linear.evaluate(SHAPE, {"learning_rate": 0.5}, 4, tmp_path / "a", listener)
    with pytest.raises(ConfigurationError, match="speed"):
        linear.evaluate(SHAPE, {"speed": 1}, 4, tmp_path / "c", listener)


def test_divergence_is_an_answer(world, tmp_path: Path, listener) -> None:
    wild = estimator(world, train=TrainConfig(batch_size=4, learning_rate=1e30, warmup_steps=0, clip=0.0, heldout_blocks=None))
    for rung in (4, 8, 8):
        answer = wild.evaluate(SHAPE, {}, rung, tmp_path, listener)
        assert math.isnan(answer.error)
        assert answer.steps == rung
        assert answer.metrics["diverged_at"] <= 4
    assert max(listener.steps) < 4


@pytest.mark.parametrize(
    ("measure", "loss"),
    [
        ("relation_cross_entropy", LOSS),
        ("hidden_mse", LOSS),
        ("kl", LossConfig(masked_lm=0.1, soft_targets=0.5)),
        ("cross_entropy", LossConfig(soft_targets=1.0)),
        ("cross_entropy", LossConfig(masked_lm=1.0)),
    ],
)
def test_every_measure_gives_a_finite_error(world, tmp_path: Path, listener, measure: str, loss: LossConfig) -> None:
    answer = estimator(world, measure, loss, rungs=[2]).evaluate(SHAPE, {}, 2, tmp_path, listener)
    assert math.isfinite(answer.error)
    assert answer.error == answer.metrics[measure]


@pytest.mark.parametrize(
    ("measure", "loss", "rungs", "key"),
    [
        ("perplexity", LOSS, [2], "error.measure"),
        ("kl", LOSS, [2], "error.measure"),
        ("hidden_mse", replace(LOSS, hidden=0.0), [2], "error.measure"),
        ("relation_kl", LossConfig(masked_lm=1.0), [2], "error.measure"),
        ("relation_kl", LOSS, [], "error.rungs"),
        ("relation_kl", LOSS, [0, 2], "error.rungs"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(world, measure: str, loss: LossConfig, rungs, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        estimator(world, measure, loss, rungs)
    assert caught.value.key == key


def test_the_fingerprint_holds_what_fixes_the_answers_and_nothing_else(world) -> None:
    base = estimator(world).fingerprint
    assert estimator(world, rungs=(2, 4)).fingerprint == base
    faster = estimator(world, impl=ImplConfig("cpu", threads=2))
    assert faster.fingerprint == base
    assert estimator(world, seed=4).fingerprint != base
    for change in ({"initialisation": "teacher"}, {"dropout": 0.1}, {"initializer_range": 0.01}):
        assert estimator(world, student=StudentConfig("1-2-8-12", **change)).fingerprint != base
    assert estimator(world, "hidden_mse").fingerprint != base
    assert estimator(world, loss=replace(LOSS, hidden=0.5)).fingerprint != base


def test_only_rungs_can_be_asked_for(world, tmp_path: Path, listener) -> None:
    with pytest.raises(BortError, match="rungs are 4, 8"):
        estimator(world).evaluate(SHAPE, {}, 5, tmp_path, listener)


def test_memory_changes_the_speed_only_and_not_by_who_came_before(world, tmp_path: Path, listener) -> None:
    """A candidate's bits are the same with a memory that others have filled as with a fresh one, and close to those without."""
    warm = estimator(world)
    warm.evaluate(Architecture(1, 4, 16, 8), {}, 8, tmp_path / "other", listener)
    assert warm._memory is not None
    filled = warm.evaluate(SHAPE, {}, 8, tmp_path / "warm", listener)
    cold = estimator(world).evaluate(SHAPE, {}, 8, tmp_path / "cold", listener)
    assert filled.error == cold.error
    without = estimator(world, impl=ImplConfig("cpu", threads=1, memory_megabytes=0))
    assert without.evaluate(SHAPE, {}, 8, tmp_path / "without", listener).error == pytest.approx(cold.error, rel=1e-4)
    assert without._memory is None


def test_memory_holds_what_the_teacher_gives(world) -> None:
    memory = RelationMemory(world.teacher, world.representation, world.corpus.block_length)
    indices = np.array([5, 2, 5, 0])
    layer_input = world.representation.batch("train", indices).layer_input
    for _ in range(2):
        for found, expected in zip(memory.take(indices), world.teacher.relation_inputs(layer_input), strict=True):
            assert torch.allclose(found, expected, atol=1e-6)
