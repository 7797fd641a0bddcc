"""The weight-sharing student: slices that stock models compute, one training that a kill does not change, and its estimator."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bort.architecture import Architecture
from bort.distillation.config import StudentConfig, TrainConfig
from bort.distillation.supernet import training as shared
from bort.distillation.supernet.estimator import SupernetEstimator
from bort.distillation.supernet.training import SupernetTraining, train_supernet
from bort.distillation.supernet.weights import Extent, Supernet
from bort.distillation.terms import LossConfig
from bort.errors import BortError, ConfigurationError, RecordError
from bort.observer import Quiet
from tests.distillation.conftest import IMPL

SHAPES = [Architecture(d, a, h, i) for d in (1, 2, 3) for a in (2, 4) for h in (8, 16) for i in (12, 20)]
LOSS = LossConfig(hidden=1.0, relations=1.0, relation_heads=2)
MASKED = LossConfig(soft_targets=1.0)


def training(world: Any, loss: LossConfig = LOSS, **changes: Any) -> SupernetTraining:
    own = {"shapes": SHAPES, "steps": 6, "samples": 2, "sandwich": True}
    own |= {name: changes.pop(name) for name in own if name in changes}
    return SupernetTraining(world.setup(loss, **changes), **own)


def train(world: Any, directory: Path, loss: LossConfig = LOSS, observer: Any = None, **changes: Any) -> Supernet:
    made, _ = train_supernet(
        training(world, loss, **changes), directory, impl=IMPL, checkpoint_every=2, observer=observer or Quiet()
    )
    return made


def scattered(world: Any, loss: LossConfig = LOSS, shapes: Any = SHAPES) -> Supernet:
    """A bank in which every weight is different, biases and norms included."""
    made = Supernet(shapes, world.teacher, StudentConfig("1-2-8-12"), seed=1, project=loss.hidden > 0).eval()
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.3)
    return made


@pytest.mark.parametrize("family", ["world", "roberta_world"])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[-1], Architecture(2, 4, 8, 20), Architecture(2, 2, 16, 12)], ids=str)
def test_an_extracted_model_is_its_slice(request: pytest.FixtureRequest, family: str, shape: Architecture, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    world = request.getfixturevalue(family)
    bank = scattered(world)
    ids = torch.from_numpy(world.corpus.heldout[list(range(4))])
    positions = torch.tensor([[1, 3]] * 4)
    with torch.no_grad():
        encoded = bank.network(shape).encode(ids, relations=True)
        logits = bank.network(shape).logits(encoded.hidden, positions)
    bank.extract(shape).save(tmp_path / "model", world.teacher.tokenizer)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    config = loaded.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size, config.intermediate_size) == (
        shape.depth, shape.heads, shape.hidden, shape.intermediate
    )  # fmt: skip
    with torch.no_grad():
        hidden = loaded.base_model(input_ids=ids).last_hidden_state
        whole = loaded(input_ids=ids).logits
    torch.testing.assert_close(encoded.hidden, hidden, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits, whole[:, [1, 3]], rtol=0, atol=1e-5)
    assert sum(parameter.numel() for parameter in loaded.base_model.parameters()) == shape.parameters(
        world.teacher.vocab_size, config.max_position_embeddings, token_types=config.type_vocab_size
    )


def test_a_slice_is_what_the_scheme_says_it_is(world) -> None:
    """Weights cut out by hand, and one layer norm, in double precision."""
    bank, shape = scattered(world), Architecture(2, 2, 8, 12)
    assert bank.extent == Extent(depth=3, heads=4, head_size=8, hidden=16, intermediate=20)
    assert [bank.extent.layer(number, 2) for number in range(2)] == [0, 2]
    assert [bank.extent.layer(number, 1) for number in range(1)] == [2]
    made = bank.extract(shape).model.bert
    held = {name: value.detach() for name, value in bank.bank.items()}
    prefix = "model/bert/encoder/layer/2/"
    query, output = held[prefix + "attention/self/query/weight"], held[prefix + "attention/output/dense/weight"]
    # Head 1 of the bank has its rows at 8 … 15; the slice takes the first 4 of them.
    rows = [0, 1, 2, 3, 8, 9, 10, 11]
    layer = made.encoder.layer[1]
    assert torch.equal(layer.attention.self.query.weight, query[rows][:, :8])
    assert torch.equal(layer.attention.self.query.bias, held[prefix + "attention/self/query/bias"][rows])
    assert torch.equal(layer.attention.output.dense.weight, output[:8][:, rows])
    assert torch.equal(layer.intermediate.dense.weight, held[prefix + "intermediate/dense/weight"][:12, :8])
    assert torch.equal(layer.output.dense.weight, held[prefix + "output/dense/weight"][:8, :12])
    ids = torch.from_numpy(world.corpus.heldout[[0]])
    names = ("word", "position", "token_type")
    word, place, kind = (held[f"model/bert/embeddings/{name}_embeddings/weight"][:, :8].double() for name in names)
    summed = word[ids[0]] + place[: ids.shape[1]] + kind[0]
    scale, shift = (held[f"model/bert/embeddings/LayerNorm/{name}"][:8].double() for name in ("weight", "bias"))
    spread = (summed.var(dim=-1, correction=0, keepdim=True) + made.config.layer_norm_eps).sqrt()
    expected = (summed - summed.mean(dim=-1, keepdim=True)) / spread * scale + shift
    found = bank.network(shape).encoder.embeddings(input_ids=ids)[0]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_gradients_reach_the_bank_where_the_slice_lies_and_nowhere_else(world) -> None:
    bank, shape = scattered(world, MASKED), SHAPES[0]
    ids = torch.from_numpy(world.corpus.heldout[[0, 1]])
    bank.network(shape).encode(ids).hidden.square().sum().backward()
    own = bank.extract(shape).eval()
    own.encode(ids).hidden.square().sum().backward()
    whole = bank.bank["model/bert/encoder/layer/2/intermediate/dense/weight"].grad
    copied = own.encoder.encoder.layer[0].intermediate.dense.weight.grad
    torch.testing.assert_close(whole[:12, :8], copied, rtol=1e-4, atol=1e-6)
    assert whole[12:].abs().sum() == whole[:, 8:].abs().sum() == 0
    assert bank.bank["model/bert/encoder/layer/0/intermediate/dense/weight"].grad is None


def test_embeddings_start_from_the_directions_that_matter_most_at_every_width(world) -> None:
    bank = Supernet(SHAPES, world.teacher, StudentConfig("1-2-8-12", initialisation="teacher"), seed=1)
    theirs = world.teacher.encoder.embeddings.word_embeddings.weight.detach()
    _, sizes, _ = torch.linalg.svd(theirs - theirs.mean(0))
    mine = bank.bank["model/bert/embeddings/word_embeddings/weight"].detach()
    kept = [row for row in range(len(mine)) if row != world.teacher.encoder.config.pad_token_id]
    for width in (8, 16):
        share = mine[kept, :width].square().sum() / mine[kept].square().sum()
        expected = sizes[:width].square().sum() / sizes[:16].square().sum()
        assert float(share) == pytest.approx(float(expected), abs=0.02)


def test_training_teaches_every_slice(world, tmp_path: Path) -> None:
    def error(bank: Supernet, shape: Architecture) -> float:
        one = estimator(world, tmp_path / "unused")
        return one._measure(bank, shape, tmp_path / "models" / str(shape))[0]["hidden_mse"]

    start = Supernet(SHAPES, world.teacher, world.setup(LOSS).student, seed=3, project=True)
    trained = train(world, tmp_path / "a", steps=30)
    for shape in (SHAPES[0], SHAPES[7], SHAPES[-1]):
        assert error(trained, shape) < error(start, shape)


class Killed(Exception):
    pass


class Stops(Quiet):
    def __init__(self, step: int) -> None:
        self.step = step

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        if label == "steps" and done == self.step:
            raise Killed


@pytest.mark.parametrize("loss", [LOSS, MASKED], ids=["representation", "logits"])
def test_a_training_that_was_killed_ends_bit_for_bit_as_one_that_was_not(world, tmp_path: Path, loss: LossConfig) -> None:
    student = StudentConfig("1-2-8-12", dropout=0.1)
    whole = train(world, tmp_path / "whole", loss, student=student)
    with pytest.raises(Killed):
        train(world, tmp_path / "killed", loss, Stops(5), student=student)
    resumed = train(world, tmp_path / "killed", loss, student=student)
    for name, value in whole.bank.items():
        assert torch.equal(value, resumed.bank[name]), name
    curves = [(tmp_path / folder / "curve.jsonl").read_text() for folder in ("whole", "killed")]
    assert curves[0] == curves[1]
    # What is trained already is read.
    again = train(world, tmp_path / "killed", loss, Stops(1), student=student)
    assert all(torch.equal(value, again.bank[name]) for name, value in whole.bank.items())
    assert not list((tmp_path / "whole" / "checkpoints").iterdir())


def test_draws_are_a_function_of_seed_and_batch(world) -> None:
    one = training(world, samples=3)
    assert one.draw([0, 7]) == one.draw([0, 7])
    drawn = {shape for number in range(60) for shape in one.draw([0, number])}
    assert drawn == set(SHAPES)
    assert all(len(set(one.draw([1, number]))) == 3 for number in range(20))
    assert [one.draw([0, n]) for n in range(5)] != [replace(one, setup=replace(one.setup, seed=4)).draw([0, n]) for n in range(5)]


def _ask(world: Any, directory: Path, answers: Any) -> None:
    torch.set_num_threads(1)
    answers.put(float(sum(value.double().sum() for value in train(world, directory).bank.values())))


def test_workers_that_need_it_at_once_train_it_once(world, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_ask, args=(world, tmp_path, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = {answers.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(found) == 1
    assert (tmp_path / shared.RECORD).exists()


def estimator(world: Any, directory: Path, measure: str = "relation_kl", **changes: Any) -> SupernetEstimator:
    loss = changes.pop("loss", LOSS)
    return SupernetEstimator(training(world, loss, **changes), measure, directory, impl=IMPL, checkpoint_every=2)


def test_the_shared_training_is_charged_once_and_candidates_cost_no_steps(world, tmp_path: Path, listener) -> None:
    one = estimator(world, tmp_path / "supernet")
    found = [one.evaluate(shape, {}, 0, tmp_path / str(shape), listener) for shape in SHAPES[:3]]
    assert [evaluation.steps for evaluation in found] == [0, 0, 0]
    assert [evaluation.tokens for evaluation in found] == [0, 0, 0]
    cost = one.shared_cost()
    assert (cost.steps, cost.tokens) == (6 * 4, 6 * 4 * 4 * 12)
    assert cost.processor_seconds > 0
    assert estimator(world, tmp_path / "supernet").shared_cost() == cost


def test_what_cannot_be_shared_is_refused(world, tmp_path: Path, listener) -> None:
    one = estimator(world, tmp_path / "supernet")
    with pytest.raises(BortError, match=r"search\.thetas"):
        one.evaluate(SHAPES[0], {"learning_rate": 1.0}, 0, tmp_path / "a", listener)
    with pytest.raises(BortError, match="no rung of 3"):
        one.evaluate(SHAPES[0], {}, 3, tmp_path / "a", listener)
    with pytest.raises(ConfigurationError, match=r"loss\.relation_heads"):
        estimator(world, tmp_path, loss=replace(LOSS, relation_heads=16))
    with pytest.raises(ConfigurationError, match=r"error\.measure=kl"):
        estimator(world, tmp_path, measure="kl")
    one.shared_cost()
    with pytest.raises(RecordError, match="other settings"):
        estimator(world, tmp_path / "supernet", seed=99).shared_cost()
    (tmp_path / "supernet" / shared.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(RecordError, match="cannot be read"):
        estimator(world, tmp_path / "supernet").shared_cost()


def test_a_shared_training_that_diverges_says_so(world, tmp_path: Path, listener) -> None:
    wild = TrainConfig(batch_size=4, learning_rate=1e30, warmup_steps=0, clip=0.0, heldout_blocks=None)
    with pytest.raises(BortError, match="diverged at step"):
        estimator(world, tmp_path, train=wild).evaluate(SHAPES[0], {}, 0, tmp_path / "a", listener)
