from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.tasks.intervals import bootstrap_interval, seed_interval
from bort.tasks.metrics import answer_exact, answer_f1, majority_baseline, score, weighted_scores
from bort.tasks.task import Example, Task


def task(labels, train, heldout, metrics, kind="classification"):
    def examples(values):
        return [Example(f"f:{index}", (f"text {index}",), value) for index, value in enumerate(values)]

    return Task("t", kind, labels, metrics, examples(train), examples(heldout), examples(heldout))


@settings(max_examples=40)
@given(st.integers(2, 4), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_class_metrics_agree_with_scikit_learn(classes, pairs):
    from sklearn import metrics as reference

    truth = [a % classes for a, _ in pairs]
    guess = [b % classes for _, b in pairs]
    names = ["accuracy", "macro_f1", "matthews_correlation"] + (["f1"] if classes == 2 else [])
    judged = task([str(i) for i in range(classes)], truth, truth, names)
    found = score(judged, guess, judged.heldout)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, guess))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, guess, average="macro", zero_division=0.0))
    assert found["matthews_correlation"] == pytest.approx(reference.matthews_corrcoef(truth, guess))
    if classes == 2:
        assert found["f1"] == pytest.approx(reference.f1_score(truth, guess, zero_division=0.0))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=30))
def test_correlations_agree_with_scipy(pairs):
    from scipy import stats

    x, y = [float(a) for a, _ in pairs], [float(b) + 1e6 for _, b in pairs]
    judged = task([], y, y, ["pearson", "spearman"], "regression")
    found = score(judged, x, judged.heldout)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found == {"pearson": 0.0, "spearman": 0.0}
        return
    assert found["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert found["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews_correlation", "pearson", "spearman"])
def test_a_weight_of_two_is_an_example_twice(metric):
    generator = np.random.default_rng(0)
    guess, truth = generator.integers(0, 2, 12).astype(float), generator.integers(0, 2, 12).astype(float)
    counts = np.array([[2, 0, 1, 1, 3, 1, 1, 0, 1, 1, 1, 0]], dtype=float)
    times = counts[0].astype(int)
    once = weighted_scores(metric, np.repeat(guess, times), np.repeat(truth, times), np.ones((1, 12)), 2)
    assert weighted_scores(metric, guess, truth, counts, 2) == pytest.approx(once)


def grouped(kind, metrics, examples):
    return Task("t", kind, ["no", "yes"] if kind == "classification" else [], metrics, examples, examples, examples)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_multirc_agrees_with_counting_by_hand(answers):
    from sklearn.metrics import f1_score

    examples = [Example(f"f:{i}", ("p", "q"), truth, group=str(q), unit=str(q)) for i, (q, truth, _) in enumerate(answers)]
    found = score(grouped("classification", ["f1a", "question_exact_match"], examples), [guess for *_, guess in answers], examples)
    assert found["f1a"] == pytest.approx(f1_score([a[1] for a in answers], [a[2] for a in answers], zero_division=0.0))
    questions = {question for question, *_ in answers}
    exact = [all(truth == guess for other, truth, guess in answers if other == question) for question in questions]
    assert found["question_exact_match"] == pytest.approx(sum(exact) / len(exact))


def test_gender_parity_counts_pairs_that_are_judged_alike():
    examples = [Example(f"f:{i}", ("p", "h"), 0, group=str(i // 2)) for i in range(6)]
    # Alike and wrong is alike.
    assert score(grouped("classification", ["gender_parity"], examples), [0, 0, 1, 1, 0, 1], examples) == {
        "gender_parity": pytest.approx(2 / 3)
    }


def reference_normalise(text):
    kept = "".join(letter for letter in text.lower() if letter not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return [word for word in kept.split() if word not in ("a", "an", "the")]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["The", "a", "U.S.", "us", "York", "new", "York!", ""]), max_size=4), st.integers(0, 3))
def test_answers_agree_with_a_plain_reference(words, shift):
    prediction, answer = " ".join(words), " ".join(words[shift:] + ["new"] * (shift % 2))
    found, wanted = reference_normalise(prediction), reference_normalise(answer)
    shared = sum(min(found.count(word), wanted.count(word)) for word in set(found))
    expected = float(found == wanted) if not found or not wanted else 2 * shared / (len(found) + len(wanted))
    assert answer_f1(prediction, [answer]) == pytest.approx(expected)
    assert answer_exact(prediction, [answer]) == float(found == wanted)


@pytest.mark.parametrize(
    ("prediction", "answers", "f1", "exact"),
    [
        ("The U.S.", ["us"], 1.0, 1.0),
        ("New York City", ["the New York", "Boston"], 0.8, 0.0),
        ("", ["Boston"], 0.0, 0.0),
        ("the", ["a"], 1.0, 1.0),
        ("Boston", [], 0.0, 0.0),
        ("Theodore", ["ore"], 0.0, 0.0),
    ],
)
def test_answers_on_edge_cases(prediction, answers, f1, exact):
    assert answer_f1(prediction, answers) == pytest.approx(f1)
    assert answer_exact(prediction, answers) == exact


def test_an_answer_is_compared_by_its_text_with_the_best_right_one():
    example = Example("f:0", ("p", "q"), 1, options=("Elif", "Ada Brown", "Brown"), answers=("Ada Brown", "the brown"))
    judged = grouped("choice", ["answer_f1", "answer_exact_match", "accuracy"], [example])
    assert example.right == {1, 2}
    assert score(judged, [2], [example]) == {"answer_f1": 1.0, "answer_exact_match": 1.0, "accuracy": 1.0}
    assert score(judged, [0], [example]) == {"answer_f1": 0.0, "answer_exact_match": 0.0, "accuracy": 0.0}


def test_the_baseline_of_a_choice_is_the_most_frequent_place():
    examples = [Example(f"f:{i}", ("p",), label, options=("x", "y", "z")[:2]) for i, label in enumerate([1, 1, 0])]
    found = majority_baseline(grouped("choice", ["accuracy"], examples))
    assert (found["label"], found["metrics"]["accuracy"]) == ("option 1", pytest.approx(2 / 3))


def test_questions_on_one_passage_are_resampled_together():
    labels = [0, 1] * 50
    guess = [[1, 1] * 50]
    alone = [Example(f"f:{i}", ("p",), label) for i, label in enumerate(labels)]
    # In pairs of one right and one wrong answer each draw has the same score.
    paired = [Example(f"f:{i}", ("p",), label, unit=str(i // 2)) for i, label in enumerate(labels)]
    wide = bootstrap_interval(grouped("classification", ["accuracy"], alone), "accuracy", guess)
    narrow = bootstrap_interval(grouped("classification", ["accuracy"], paired), "accuracy", guess)
    assert wide["high"] - wide["low"] > 0.1
    assert narrow["low"] == narrow["high"] == 0.5


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews_correlation", "f1a"])
def test_one_class_only(metric):
    judged = task(["no", "yes"], [0, 0], [0, 0], [metric])
    every = score(judged, [0, 0], judged.heldout)[metric]
    assert every == (1.0 if metric in ("accuracy", "macro_f1") else 0.0)
    assert score(judged, [1, 1], judged.heldout)[metric] == 0.0


def test_majority_baseline_on_unbalanced_labels_is_judged_by_every_metric():
    rare = task(["no", "yes"], [0] * 9 + [1], [0] * 8 + [1] * 2, ["accuracy", "f1", "matthews_correlation"])
    found = majority_baseline(rare)
    assert found["label"] == "no"
    assert found["metrics"] == {"accuracy": 0.8, "f1": 0.0, "matthews_correlation": 0.0}
    assert found["best_constant"]["f1"] == pytest.approx(2 * 0.2 / 1.2)


def test_majority_is_that_of_train_not_of_the_judged_split():
    found = majority_baseline(task(["no", "yes"], [1, 1, 0], [0, 0, 0, 1], ["accuracy"]))
    assert (found["label"], found["metrics"]["accuracy"]) == ("yes", 0.25)


def test_baseline_of_a_regression_is_the_mean():
    found = majority_baseline(task([], [1.0, 2.0], [0.0, 5.0], ["pearson", "spearman"], "regression"))
    assert found["label"] == 1.5
    assert found["metrics"] == {"pearson": 0.0, "spearman": 0.0}


def test_seed_interval_agrees_with_scipy():
    from scipy import stats

    values = [0.71, 0.74, 0.69, 0.75, 0.72]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = seed_interval(values)
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert (found["mean"], found["median"]) == (pytest.approx(np.mean(values)), 0.72)


def test_one_seed_has_no_interval():
    assert seed_interval([0.5]) == {"mean": 0.5, "low": None, "high": None, "median": 0.5, "values": [0.5]}


def test_bootstrap_interval_covers_and_narrows_with_examples():
    widths = []
    for count in (100, 1600):
        truth = [index % 2 for index in range(count)]
        guess = [value if index % 10 < 8 else 1 - value for index, value in enumerate(truth)]
        found = bootstrap_interval(task(["a", "b"], truth, truth, ["accuracy"]), "accuracy", [guess, guess])
        # The binomial standard error of 0.8, 1.96 of it to each side.
        assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * (0.16 / count) ** 0.5, rel=0.15)
        assert found["low"] < 0.8 < found["high"]
        widths.append(found["high"] - found["low"])
    assert widths[1] < widths[0] / 3


def test_bootstrap_interval_is_a_function_of_its_seed():
    judged = task(["a", "b"], [0, 1] * 20, [0, 1] * 20, ["f1"])
    guess = [[0, 1, 1, 0] * 10]
    assert bootstrap_interval(judged, "f1", guess, seed=3) == bootstrap_interval(judged, "f1", guess, seed=3)
    assert bootstrap_interval(judged, "f1", guess, seed=3) != bootstrap_interval(judged, "f1", guess, seed=4)
