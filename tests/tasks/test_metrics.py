from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.tasks.intervals import bootstrap_interval, seed_interval
from bort.tasks.metrics import majority_baseline, score, weighted_scores
from bort.tasks.task import Example, Task


def task(labels, train, heldout, metrics, kind="classification"):
    def examples(values):
        return [Example(f"f:{index}", (f"text {index}",), value) for index, value in enumerate(values)]

    return Task("t", kind, labels, metrics, examples(train), examples(heldout), examples(heldout))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_class_metrics_agree_with_scikit_learn(classes, pairs):
    from sklearn import metrics as reference

    truth = [a % classes for a, _ in pairs]
    guess = [b % classes for _, b in pairs]
    names = ["accuracy", "macro_f1", "matthews_correlation"] + (["f1"] if classes == 2 else [])
    found = score(task([str(i) for i in range(classes)], truth, truth, names), guess, truth)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, guess))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, guess, average="macro", zero_division=0.0))
    assert found["matthews_correlation"] == pytest.approx(reference.matthews_corrcoef(truth, guess))
    if classes == 2:
        assert found["f1"] == pytest.approx(reference.f1_score(truth, guess, zero_division=0.0))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=30))
def test_correlations_agree_with_scipy(pairs):
    from scipy import stats

    x, y = [float(a) for a, _ in pairs], [float(b) + 1e6 for _, b in pairs]
    found = score(task([], y, y, ["pearson", "spearman"], "regression"), x, y)
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
