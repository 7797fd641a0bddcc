"""Who dominates whom, and what is said of the first model."""

from __future__ import annotations

import pytest
from scipy import stats

from bort.baselines.comparison import compare, dominates, gains


def model(mean: float, parameters: int, latency: float) -> dict:
    score = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}
    return {"metrics": {"accuracy": score}, "parameters": parameters, "latency_ms": latency, "cost": {"processor_seconds": 5.0}}


def baseline(mean: float, parameters: int, latency: float | None) -> dict:
    score = {"mean": mean, "low": mean, "high": mean}
    return {"title": "b", "accuracy": score, "parameters": parameters, "latency_ms": latency, "processor_seconds": 1.0}


def test_a_better_smaller_faster_row_dominates():
    found = compare(
        "accuracy", {"student": model(0.7, 100, 2.0)}, {"tfidf": baseline(0.71, 10, 0.1), "majority": baseline(0.5, 0, None)}
    )
    assert [row["name"] for row in found["rows"]] == ["tfidf", "student", "majority"]
    assert {row["name"]: row["dominated_by"] for row in found["rows"]} == {"tfidf": [], "student": ["tfidf"], "majority": []}
    assert "tfidf (0.710)" in found["sentence"]


def test_a_row_is_on_the_front_if_each_other_is_worse_somewhere():
    found = compare("accuracy", {"student": model(0.7, 100, 2.0)}, {"static": baseline(0.72, 200, 0.1)})
    assert all(row["dominated_by"] == [] for row in found["rows"])
    assert "on the front" in found["sentence"]


def test_equal_rows_do_not_dominate_each_other():
    row = {"mean": 0.5, "parameters": 3, "latency_ms": 1.0}
    assert not dominates(row, dict(row))
    assert dominates({**row, "latency_ms": 0.5}, row)


def test_without_models_nothing_is_said():
    assert compare("accuracy", {}, {"majority": baseline(0.5, 0, None)})["sentence"] == ""


def test_gains_are_paired_over_seeds():
    def scored(*values: float) -> dict:
        return {"metrics": {"accuracy": {"values": list(values)}}}

    models = {"student": scored(0.8, 0.7), "start": scored(0.7, 0.65), "random": scored(0.5, 0.55), "teacher": scored(0.9, 0.9)}
    found = gains(models)
    assert set(found) == {"start", "training", "all"}
    training = found["training"]["accuracy"]
    assert training["mean"] == pytest.approx(0.075)
    assert (training["low"], training["high"]) == pytest.approx(stats.t.interval(0.95, 1, 0.075, 0.025))
    assert gains({"student": scored(0.8), "start": scored(0.7)})["training"]["accuracy"]["low"] is None
