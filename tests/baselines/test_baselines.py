"""Baselines: what each reads, how it is chosen, and what its record holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bort.baselines.features import TfidfFeatures, combined
from bort.baselines.linear import LinearBaseline
from bort.baselines.names import TITLES
from bort.baselines.rows import predictions, rows_of
from bort.baselines.run import BaselineSources, run_baselines, single_latency
from bort.baselines.static import SIF_COEFFICIENT, StaticFeatures, reduce, token_vectors, zipf_weights
from bort.tasks.task import Example, Task
from bort.teacher.config import TeacherConfig
from bort.teacher.features import TextEncoder
from bort.teacher.load import load_teacher
from tests.finetuning.agora.conftest import encoder_dir, pairs, toy  # noqa: F401


class Listener:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def progress(self, label, done, total, note="") -> None:
        pass

    def metrics(self, values, step) -> None:
        pass

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def text_encoder(encoder_dir):  # noqa: F811
    teacher = load_teacher(TeacherConfig(path=str(encoder_dir)))
    return TextEncoder(teacher.encoder, teacher.tokenizer, 24)


def choice() -> Task:
    def example(number: int) -> Example:
        right = number % 2
        options = ("good great", "bad poor") if right == 0 else ("bad poor", "good great")
        return Example(f"c:{number}", (f"aa {number}",), float(right), options=options, answers=("good great",))

    made = [example(number) for number in range(30)]
    return Task("choice", "choice", [], ["accuracy"], made[:14], made[14:22], made[22:])


def test_rows_of_a_choice_are_its_options():
    task = choice()
    rows = rows_of(task, task.train[:2])
    assert rows.owners.tolist() == [0, 0, 1, 1]
    assert rows.targets.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert predictions(task, rows, np.array([0.1, 0.2, 0.9, 0.3])) == [1.0, 0.0]


def test_a_pair_holds_both_vectors_their_difference_and_product():
    features = TfidfFeatures()
    features.fit(["red green", "green blue"])
    found = combined(features, [("red green", "green blue")]).toarray()[0]
    one, other, difference, product = np.split(found, 4)
    assert np.allclose(difference, np.abs(one - other))
    assert np.allclose(product, one * other)


def test_the_strength_is_the_best_on_steering_and_heldout_is_not_read(toy):  # noqa: F811
    blind = replace(toy, heldout=[replace(example, label=1.0 - example.label) for example in toy.heldout])
    one, other = (LinearBaseline(TfidfFeatures(), task) for task in (toy, blind))
    assert (one.strength, one.steering) == (other.strength, other.steering)
    assert one.predict(toy.heldout) == other.predict(toy.heldout)


def test_tfidf_agrees_with_scikit_learn_alone(toy):  # noqa: F811
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    model = LinearBaseline(TfidfFeatures(), toy)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    train = vectorizer.fit_transform([example.texts[0] for example in toy.train])
    reference = LogisticRegression(C=model.strength, max_iter=1000).fit(train, [int(example.label) for example in toy.train])
    wanted = reference.predict(vectorizer.transform([example.texts[0] for example in toy.heldout]))
    assert model.predict(toy.heldout) == wanted.astype(float).tolist()


def test_layer_means_agree_with_single_texts_and_skip_padding(text_encoder):
    import torch

    texts = ["good aa", "bad poor awful bb cc dd", "film"]
    found = text_encoder.layer_means(texts)
    for row, text in zip(found, texts, strict=True):
        inputs = text_encoder.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            states = text_encoder.encoder(**inputs, output_hidden_states=True).hidden_states
        wanted = np.stack([state[0].mean(0).numpy() for state in states])
        assert np.allclose(row, wanted, atol=1e-5)
    assert np.allclose(text_encoder.embedding_means(texts), found[:, 0], atol=1e-5)


def test_static_vectors_follow_the_recipe(text_encoder, tmp_path):
    import torch

    full = token_vectors(text_encoder)
    ids = text_encoder.tokenizer("good", return_tensors="pt")
    with torch.inference_mode():
        wanted = text_encoder.encoder(**ids).last_hidden_state[0].mean(0).numpy()
    token = text_encoder.tokenizer.convert_tokens_to_ids("good")
    assert np.allclose(full[token], wanted, atol=1e-5)
    features = StaticFeatures(text_encoder, 8, tmp_path / "static")
    assert features.table.shape == (len(full), 8)
    assert np.allclose(features.table, reduce(full, 8) * zipf_weights(len(full))[:, None])
    assert np.allclose(features.vectors(["good bad"])[0], (features.table[token] + features.table[token + 4]) / 2)
    assert not features.vectors(["unheard"]).any()
    again = StaticFeatures(text_encoder, 8, tmp_path / "static")
    assert np.array_equal(again.table, features.table)
    assert again.vocabulary_seconds == features.vocabulary_seconds


def test_reduced_vectors_keep_inner_products_at_full_width(text_encoder):
    full = token_vectors(text_encoder)
    centred = full - full.mean(0)
    reduced = reduce(full, full.shape[1])
    assert np.allclose(reduced @ reduced.T, centred @ centred.T, atol=1e-3)


def test_zipf_weights_rise_with_the_rank():
    weights = zipf_weights(100)
    inverse = 1 / (np.arange(100) + 2)
    assert np.allclose(weights, SIF_COEFFICIENT / (SIF_COEFFICIENT + inverse / inverse.sum()))
    assert (np.diff(weights) > 0).all()


@pytest.mark.parametrize("kind", ["toy", "pairs", "choice", "regression"])
def test_every_baseline_has_score_size_latency_and_cost(kind, text_encoder, request, tmp_path):
    task = choice() if kind == "choice" else request.getfixturevalue("toy" if kind == "regression" else kind)
    if kind == "regression":
        task = replace(task, kind="regression", labels=[], metrics=["pearson"])
    sources = BaselineSources(lambda: (text_encoder, 12_345, "digest"), tmp_path, 500)
    listener = Listener()
    found = run_baselines(task, list(TITLES), sources, observer=listener, resamples=50)
    assert listener.warnings == []
    assert list(found) == list(TITLES)
    for name, record in found.items():
        score = record[task.primary]
        assert score["low"] <= score["mean"] <= score["high"], name
        assert record["processor_seconds"] >= 0.0
        assert (record["latency_ms"] is None) == (name == "majority")
    assert found["static_small"]["parameters"] < found["static"]["parameters"]
    assert found["frozen"]["parameters"] > 12_345
    if kind == "toy":
        assert found["tfidf"]["accuracy"]["mean"] > 0.9


def test_what_cannot_be_had_is_named_and_left_out(toy):  # noqa: F811
    listener = Listener()
    found = run_baselines(toy, ["majority", "frozen"], BaselineSources(), observer=listener)
    assert list(found) == ["majority"]
    assert len(listener.warnings) == 1
    assert "frozen" in listener.warnings[0]


def test_latency_is_that_of_single_examples():
    seen: list[Example] = []
    examples = [Example(str(number), ("a",), 0.0) for number in range(3)]
    assert single_latency(seen.append, examples) is not None
    assert set(map(id, seen)) == set(map(id, examples))
    assert single_latency(seen.append, []) is None
