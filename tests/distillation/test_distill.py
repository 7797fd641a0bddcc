"""The loop on a tiny world: it learns, says what it did, resumes bit for bit, and leaves a directory that transformers reads."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bort.architecture import Architecture
from bort.curve import read_curve
from bort.distillation.config import BudgetConfig, StudentConfig, TrainConfig
from bort.distillation.distill import distill
from bort.distillation.loop import DivergenceError
from bort.distillation.student import build_student
from bort.distillation.terms import LossConfig
from bort.errors import BortError, ConfigurationError, RecordError
from bort.runtime_config import ImplConfig

SHAPE = Architecture(1, 2, 8, 12)
REPRESENTATION = LossConfig(hidden=1.0, relations=1.0, relation_heads=2)
PAPER = LossConfig(masked_lm=0.1, soft_targets=0.5, temperature=2.0)
MASKED_LM = LossConfig(masked_lm=1.0, relation_heads=2)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "student" / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("loss", "figures"),
    [
        (REPRESENTATION, {"relation_kl", "relation_cross_entropy", "hidden_mse"}),
        (PAPER, {"mlm_accuracy", "cross_entropy", "kl", "teacher_mlm_accuracy", "teacher_cross_entropy"}),
        (MASKED_LM, {"mlm_accuracy", "cross_entropy"}),
        (
            replace(REPRESENTATION, masked_lm=0.1),
            {"relation_kl", "relation_cross_entropy", "hidden_mse", "mlm_accuracy", "cross_entropy"},
        ),
    ],
    ids=["representation", "paper", "masked_lm", "mixed"],
)
def test_each_loss_learns_and_reports_what_applies(world, listener, tmp_path: Path, loss: LossConfig, figures: set[str]) -> None:
    result = distill(SHAPE, **world.arguments(loss), budget=BudgetConfig(steps=30), directory=tmp_path, observer=listener)
    assert set(result["heldout"]) == figures
    assert all(math.isfinite(value) for value in result["heldout"].values())
    curve = [point for point in result["curve"] if "loss" in point]
    assert [point["step"] for point in curve] == list(range(2, 31, 2))
    assert set(curve[0]) == {"step", "loss", "gradient_norm", "learning_rate", *loss.terms}
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[0]["loss"] == pytest.approx(sum(getattr(loss, term) * curve[0][term] for term in loss.terms), rel=1e-5)
    assert read_curve(tmp_path / "curve.jsonl") == result["curve"]
    assert [{"step": step, **values} for step, values in listener.points] == result["curve"]
    assert listener.steps == list(range(1, 31))
    assert result["tokens"] == 30 * 4 * 12
    assert result["head_trained"] == (loss.masked_lm > 0 or loss.soft_targets > 0)
    assert result["parameters"] == SHAPE.parameters(60, 24, token_types=2)
    assert result["parameters_with_head"] == SHAPE.parameters(60, 24, token_types=2, head=True)
    json.dumps(result, allow_nan=False)


def test_no_steps_leave_the_untrained_start(world, tmp_path: Path) -> None:
    student = StudentConfig(initialisation="teacher")
    arguments = world.arguments(REPRESENTATION, student=student)
    result = distill(SHAPE, **arguments, budget=BudgetConfig(steps=0), directory=tmp_path)
    setup = arguments["setup"]
    started = build_student(SHAPE, world.teacher, student, seed=setup.seed, project=True).model
    written = weights(tmp_path)
    named = {name: value for name, value in started.state_dict().items() if name in written}
    assert same(written, named)
    assert (result["steps"], result["tokens"], result["epochs"]) == (0, 0, 0.0)
    assert all(math.isfinite(value) for value in result["heldout"].values())


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_student_is_read_by_transformers_alone(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

    world = request.getfixturevalue("world" if family == "bert" else "roberta_world")
    loss = REPRESENTATION if family == "bert" else PAPER
    result = distill(SHAPE, **world.arguments(loss), budget=BudgetConfig(steps=3), directory=tmp_path)
    model, report = AutoModelForMaskedLM.from_pretrained(result["student"], output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.config.model_type == family
    _, report = AutoModel.from_pretrained(result["student"], add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]
    tokenizer = AutoTokenizer.from_pretrained(result["student"])
    assert tokenizer("w1 w2")["input_ids"] == world.teacher.tokenizer("w1 w2")["input_ids"]
    ids = torch.from_numpy(world.corpus.heldout[[0]])
    assert model(input_ids=ids).logits.shape == (1, 12, 60)
    assert (tmp_path / "projection.safetensors").exists() == (loss.hidden > 0)


def test_an_undistilled_twin_is_measured_by_the_same_targets(world, tmp_path: Path) -> None:
    arguments = world.arguments(MASKED_LM, targets=world.representation)
    result = distill(SHAPE, **arguments, budget=BudgetConfig(steps=3), directory=tmp_path)
    assert set(result["heldout"]) == {"mlm_accuracy", "cross_entropy", "relation_kl", "relation_cross_entropy"}


def test_the_same_call_gives_the_same_bits_and_leaves_the_global_generator(world, tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.randn(3)
    torch.manual_seed(11)
    arguments = world.arguments(REPRESENTATION, student=StudentConfig(dropout=0.2))
    results = [distill(SHAPE, **arguments, budget=BudgetConfig(steps=6), directory=tmp_path / name) for name in ("a", "b")]
    assert torch.equal(torch.randn(3), expected)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert results[0]["curve"] == results[1]["curve"]
    for change in ({"seed": 4}, {"student": StudentConfig(dropout=0.0)}):
        setup, folder = replace(arguments["setup"], **change), tmp_path / str(len(list(tmp_path.iterdir())))
        other = distill(SHAPE, setup, BudgetConfig(steps=6), folder, impl=arguments["impl"])
        assert other["curve"] != results[0]["curve"]


def test_more_steps_go_on_from_where_it_stopped(world, listener, tmp_path: Path) -> None:
    train = TrainConfig(batch_size=4, schedule="constant", log_every=2, heldout_blocks=None)
    arguments = world.arguments(REPRESENTATION, train=train)
    whole = distill(SHAPE, **arguments, budget=BudgetConfig(steps=12), directory=tmp_path / "whole")
    distill(SHAPE, **arguments, budget=BudgetConfig(steps=4), directory=tmp_path / "parts")
    parts = distill(SHAPE, **arguments, budget=BudgetConfig(steps=12), directory=tmp_path / "parts", observer=listener)
    assert listener.steps == list(range(5, 13))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert [point for point in parts["curve"] if "loss" in point] == [point for point in whole["curve"] if "loss" in point]
    again = distill(SHAPE, **arguments, budget=BudgetConfig(steps=12), directory=tmp_path / "parts")
    assert again["curve"] == parts["curve"]
    assert again["heldout"] == parts["heldout"]


def test_threads_change_nothing_beyond_rounding(world, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    results = [
        distill(SHAPE, world.setup(PAPER), BudgetConfig(steps=10), tmp_path / str(n), impl=ImplConfig("cpu", threads=n))
        for n in (1, 2)
    ]
    assert torch.get_num_threads() == before
    for name, value in results[0]["heldout"].items():
        assert results[1]["heldout"][name] == pytest.approx(value, rel=1e-3, abs=1e-5)


def test_a_diverging_run_stops_with_its_step_and_keeps_the_last_good_checkpoint(world, tmp_path: Path) -> None:
    train = TrainConfig(batch_size=4, learning_rate=1e30, warmup_steps=0, clip=0.0, heldout_blocks=None)
    with pytest.raises(DivergenceError, match=r"diverged at step \d+ .*learning_rate") as caught:
        distill(
            SHAPE,
            **world.arguments(REPRESENTATION, train=train),
            budget=BudgetConfig(steps=20, checkpoint_every=1),
            directory=tmp_path,
        )
    kept = sorted((tmp_path / "checkpoints").iterdir())
    assert f"{caught.value.step - 1:09d}" in kept[-1].name
    assert not (tmp_path / "student").exists()


def test_settings_of_another_run_are_refused(world, tmp_path: Path) -> None:
    distill(SHAPE, **world.arguments(REPRESENTATION), budget=BudgetConfig(steps=2), directory=tmp_path)
    with pytest.raises(RecordError, match="other settings"):
        distill(SHAPE, **world.arguments(REPRESENTATION, seed=9), budget=BudgetConfig(steps=2), directory=tmp_path)


def test_what_does_not_fit_is_refused_before_anything_is_written(world, tmp_path: Path) -> None:
    tall = replace(REPRESENTATION, relation_heads=3)
    cases = [
        (world.arguments(REPRESENTATION, targets=None), "kind representation"),
        (world.arguments(REPRESENTATION, targets=world.logits), "kind logits"),
        (world.arguments(tall), "relation_heads"),
        (world.arguments(LossConfig()), "weight > 0"),
        (world.arguments(REPRESENTATION, train=TrainConfig(batch_size=41)), "batch_size"),
    ]
    for arguments, message in cases:
        with pytest.raises(BortError, match=message):
            distill(SHAPE, **arguments, budget=BudgetConfig(steps=2), directory=tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"budget\.steps"):
        distill(SHAPE, **world.arguments(REPRESENTATION), budget=BudgetConfig(steps=-1), directory=tmp_path / "out")
    assert not (tmp_path / "out").exists()
