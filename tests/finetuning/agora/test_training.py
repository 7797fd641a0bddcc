"""Trainings of a number of steps towards probabilities, and the compact word embedding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bort.finetuning.agora.embedding import CompactEmbedding
from bort.finetuning.agora.training import Trainer, Training
from bort.finetuning.agora.workspace import without_heldout
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.module import Reporting
from bort.finetuning.setup import FinetuningSetup
from bort.finetuning.train import train_classifier
from bort.finetuning.workspace import Workspace

CONFIG = FinetuningConfig(learning_rate=1e-2, batch_size=8, epochs=2, weight_decay=0.0, dropout=0.0, pooling="mean")


def trainer(encoder_dir, task, steps, judgements=2):
    workspace = Workspace(FinetuningSetup(encoder_dir, without_heldout(task), CONFIG))
    return Trainer(workspace, CONFIG, steps=steps, judgements=judgements)


def train(made, examples, targets, theta, seed=0):
    return made.train(Training(made.on(examples), targets, theta, seed, made.steps), "x")


def onehot(examples):
    return np.eye(2)[[int(example.label) for example in examples]]


def test_with_hard_targets_it_is_fine_tuning_whole_embedding_and_all(encoder_dir, toy):
    made = trainer(encoder_dir, toy, steps=12)
    assert made.steps == 12
    found = train(made, toy.train, onehot(toy.train), {}, seed=3)
    # 48 examples in batches of 8 are 6 steps: two passes, judged after each.
    usual = train_classifier(made.workspace, CONFIG, 3, Reporting("x"), heldout=False)
    assert found.record["steps"] == usual.record["steps"] == 12
    assert found.record["steering"] == usual.record["steering"]
    assert [point["loss"] for point in found.record["curve"]] == pytest.approx(
        [point["loss"] for point in usual.record["curve"]], abs=1e-5
    )
    for (name, one), (other_name, other) in zip(found.model.state_dict().items(), usual.model.state_dict().items(), strict=True):
        assert name == other_name
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_its_length_does_not_depend_on_the_examples(encoder_dir, toy):
    made = trainer(encoder_dir, toy, steps=7, judgements=3)
    assert made.steps == 9  # whole stretches of three
    few = toy.train[:10]
    record = train(made, few, onehot(few), {"epochs": 50, "learning_rate": 1e-3}).record
    assert (record["steps"], record["epochs"], record["theta"]["learning_rate"]) == (9, 3, 1e-3)


def test_soft_targets_are_learnt(encoder_dir, toy):
    made = trainer(encoder_dir, toy, steps=40, judgements=1)
    soft = np.tile([0.3, 0.7], (len(toy.train), 1))
    model = train(made, toy.train, soft, {}).model
    found = torch.softmax(torch.from_numpy(made.logits(model, toy.train)), dim=-1)[:, 1]
    assert float(found.mean()) == pytest.approx(0.7, abs=0.05)


def test_the_loss_is_the_cross_entropy_with_the_targets(encoder_dir, toy):
    soft = np.random.default_rng(0).dirichlet([1, 1], size=len(toy.train))
    made = trainer(encoder_dir, replace(toy, train=toy.train[:8]), steps=1, judgements=1)
    trained = train(made, toy.train[:8], soft[:8], {"learning_rate": 1e-12})
    found = torch.log_softmax(torch.from_numpy(made.logits(trained.model, toy.train[:8])), dim=-1).numpy()
    wanted = float(-(soft[:8] * found).sum(axis=1).mean())
    assert trained.record["curve"][0]["loss"] == pytest.approx(wanted, abs=1e-5)


def test_the_compact_embedding_gives_and_takes_the_rows_that_occur():
    torch.manual_seed(0)
    whole = nn.Embedding(10, 4, padding_idx=0)
    before = whole.weight.detach().clone()
    small = CompactEmbedding(whole, np.array([2, 5, 9]))
    tokens = torch.tensor([[9, 2, 5, 0]])
    torch.testing.assert_close(small(tokens), whole(tokens))
    assert [tuple(value.shape) for value in small.parameters()] == [(4, 4)]
    with torch.no_grad():
        small.rows.weight += 1
    after = small.expanded().weight
    torch.testing.assert_close(after[[2, 5, 9]], before[[2, 5, 9]] + 1)
    torch.testing.assert_close(after[[1, 3, 4, 6, 7, 8]], before[[1, 3, 4, 6, 7, 8]])


def test_a_frozen_embedding_is_left_alone(encoder_dir, toy):
    made = trainer(encoder_dir, toy, steps=2, judgements=1)
    model = train(made, toy.train, onehot(toy.train), {"freeze": 1}).model
    whole = made.workspace.model().base_model.get_input_embeddings().weight
    torch.testing.assert_close(model.base_model.get_input_embeddings().weight, whole)
