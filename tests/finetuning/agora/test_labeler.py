"""One contract for all labellers, and the refusal of one at chance."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from bort.errors import BortError, ConfigurationError
from bort.finetuning.agora.config import LabelerConfig
from bort.finetuning.agora.labeler import FeatureLabeler, build_labeler, class_shares, evened, f1_shares, refusal
from bort.finetuning.agora.workspace import without_heldout
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.setup import FinetuningSetup
from bort.finetuning.train import finetune_once
from bort.settings import check_settings

THETA = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 8}


@pytest.fixture(scope="module")
def classifier(encoder_dir, toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier")
    flipped = {split: [flip(one) for one in getattr(toy, split)] for split in ("train", "steering", "heldout")}
    task = replace(toy, labels=["positive", "negative"], **flipped)
    finetune_once(FinetuningSetup(encoder_dir, task, FinetuningConfig(**THETA)), path)
    return path / "model"


def flip(example):
    return replace(example, label=1 - example.label)


def build(kind, toy, encoder_dir, classifier, encoder, path, **changes):
    config = LabelerConfig(kind=kind, encoder=str(encoder_dir), path=str(classifier), theta=THETA, accuracy=0.6, **changes)
    return build_labeler(config, without_heldout(toy), directory=path, encoder=encoder, seed=0)


@pytest.mark.parametrize("kind", ["features", "finetune", "directory"])
def test_it_gives_probabilities_in_the_tasks_order(kind, toy, encoder_dir, classifier, encoder, tmp_path):
    labeller, record = build(kind, toy, encoder_dir, classifier, encoder, tmp_path)
    found = labeller.probabilities(toy.heldout)
    assert found.shape == (len(toy.heldout), 2)
    assert np.allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    assert record["refused"] == ""
    # The directory's classifier has the labels the other way round: they are matched by name.
    assert np.mean(found.argmax(axis=1) == [example.label for example in toy.heldout]) > 0.7
    assert np.allclose(labeller.probabilities([flip(one) for one in toy.heldout[:5]]), found[:5], atol=1e-5)
    assert labeller.probabilities([]).shape == (0, 2)
    assert record["steering"]["accuracy"] > 0.7
    assert record["processor_seconds"] >= 0


def test_one_at_chance_is_refused_with_its_figures(toy, encoder_dir, classifier, encoder, tmp_path):
    confused = replace(toy, train=[replace(one, label=float(place // 2 % 2)) for place, one in enumerate(toy.train)])
    _, record = build("features", confused, encoder_dir, classifier, encoder, tmp_path)
    assert f"accuracy is {record['steering']['accuracy']:.3f}" in record["refused"]
    assert "above 0.600" in record["refused"]
    assert "40 steering examples" in record["refused"]


def test_an_accuracy_that_the_majority_has_is_no_skill(toy, encoder_dir, classifier, encoder, tmp_path):
    # Nine of ten are positive: a labeller that always says so has an accuracy of 0.9 and no skill.
    lopsided = replace(
        toy,
        train=[replace(one, label=float(place % 10 > 0)) for place, one in enumerate(toy.train)],
        steering=[replace(one, label=float(place % 10 > 0)) for place, one in enumerate(toy.steering)],
    )
    _, record = build("features", lopsided, encoder_dir, classifier, encoder, tmp_path, skill=0.3)
    assert record["steering"]["accuracy"] > 0.6
    assert "matthews correlation" in record["refused"]


def test_evened_labels_show_skill_that_a_frequent_class_hides(toy, encoder_dir, classifier, encoder, tmp_path):
    # Two of three are positive, and a labeller that is never sure of the other class says so of all.
    shares = class_shares(replace(toy, train=[*toy.train, *(one for one in toy.train if one.label)]))
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.05)
    unsure = np.array([[0.4, 0.6], [0.3, 0.7]])
    expected = unsure / shares
    assert np.allclose(evened(unsure, shares), expected / expected.sum(axis=1, keepdims=True))
    assert evened(unsure, shares).argmax(axis=1).tolist() == [0, 1]
    assert np.allclose(evened(unsure, np.array([0.0, 1.0])), [[0, 1], [0, 1]])
    scores = {"accuracy": 0.7, "matthews_correlation": 0.0, "evened_matthews_correlation": 0.2}
    assert "matthews correlation is 0.000" in refusal(LabelerConfig(), scores, 40, even=False)
    assert refusal(LabelerConfig(), scores, 40, even=True) == ""


@pytest.mark.parametrize("seed", range(8))
def test_shares_for_f1_choose_what_the_best_threshold_does(toy, seed):
    generator = np.random.default_rng(seed)
    truth = (generator.random(len(toy.steering)) < 0.3 + 0.05 * seed).astype(int)
    truth[0] = 1
    likely = np.clip(0.5 * truth + generator.random(len(truth)), 0, 1.5) / 1.5
    task = replace(toy, steering=[replace(one, label=float(label)) for one, label in zip(toy.steering, truth, strict=True)])
    labeller = SimpleNamespace(probabilities=lambda examples: np.stack([1 - likely, likely], axis=1))
    best = max(f1_score(truth, likely >= threshold) for threshold in likely)
    shares = f1_shares(labeller, task)
    assert shares == pytest.approx([1 - best / 2, best / 2])
    assert best >= f1_score(truth, np.ones_like(truth))
    grid = np.linspace(0.001, 0.999, 201)
    chosen = evened(np.stack([1 - grid, grid], axis=1), shares).argmax(axis=1)
    assert (chosen == (grid > best / 2)).all()


def test_features_of_all_layers_are_fitted_as_a_regression_on_them_would_be(toy, encoder):
    labeller = FeatureLabeler(encoder, toy)
    layers = encoder.features([one.texts[0] for one in toy.train]).reshape(len(toy.train), -1).astype(np.float64)
    held = encoder.features([one.texts[0] for one in toy.heldout]).reshape(len(toy.heldout), -1).astype(np.float64)
    scale = (layers.std(axis=0) + 1e-6) * np.sqrt(layers.shape[1])
    whole = LogisticRegression(C=labeller.strength, max_iter=5000, tol=1e-8)
    whole.fit((layers - layers.mean(axis=0)) / scale, [one.label for one in toy.train])
    found, expected = labeller.probabilities(toy.heldout), whole.predict_proba((held - layers.mean(axis=0)) / scale)
    assert np.allclose(found, expected, atol=1e-3), np.abs(found - expected).max()


def test_what_it_could_be_made_from_has_to_be_named(toy, tmp_path):
    with pytest.raises(ConfigurationError, match=r"agora\.labeller\.encoder"):
        build_labeler(LabelerConfig(), toy, directory=tmp_path, encoder=None, seed=0)
    with pytest.raises(ConfigurationError, match=r"agora\.labeller\.path"):
        check_settings(LabelerConfig(kind="directory"), "agora.labeller")


def test_a_labeller_of_another_task_is_refused(toy, classifier, tmp_path):
    other = replace(toy, labels=["no", "yes"])
    with pytest.raises(BortError, match="labels"):
        build_labeler(LabelerConfig(kind="directory", path=str(classifier)), other, directory=tmp_path, encoder=None, seed=0)
