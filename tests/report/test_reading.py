from __future__ import annotations

import re
from typing import Any

import pytest

from bort.errors import RecordError
from bort.report.reading import Findings, points
from bort.report.search_figures import why
from bort.report.sections import search, task
from bort.report.summary import headline, headline_html, tiles
from tests.report.example import TEACHER, example_result


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return example_result()


def test_the_headline_says_what_was_found(result: dict[str, Any]) -> None:
    winner = result["winner"]["name"]
    text = headline(Findings.of(result))
    assert text.startswith(f"{winner} wins: 10× smaller and 9.3× faster than its teacher.")
    assert "On Rotten Tomatoes it scores 73.9 % accuracy, its teacher 80.1 %" in text
    assert "trained without a teacher 64.7 %" in text
    assert f'<span class="shape">{winner}</span>' in headline_html(Findings.of(result))


def test_the_headline_of_each_stage_alone(result: dict[str, Any]) -> None:
    alone = {
        name: headline(Findings.of({"stage": name, **result[name]})) for name in ("search", "distill", "finetune", "benchmark")
    }
    assert "wins among 19 candidates with W = 0.365" in alone["search"]
    assert "held-out text" in alone["distill"]
    assert alone["finetune"].startswith("On Rotten Tomatoes")
    assert "fast" in alone["benchmark"]
    assert headline(Findings.of({"stage": "export"})) == "The export stage is done."
    assert headline(Findings.of({})) == "The result stage is done."


def test_a_twin_that_is_better_is_said_to_be_better(result: dict[str, Any]) -> None:
    models = result["finetune"]["models"]
    turned = {**result, "finetune": {"models": {**models, "student": models["twin"], "twin": models["student"]}}}
    assert "−9.2" in tiles(Findings.of(turned))


def test_scores_fall_back_to_intervals_over_examples(result: dict[str, Any]) -> None:
    metric = {"mean": 0.7, "low": None, "high": None, "values": [0.7], "examples": {"low": 0.67, "high": 0.73}}
    found = Findings.of({"finetune": {"metrics": {"accuracy": metric}}}).score("student", "accuracy")
    assert found is not None
    assert (found.bounds, found.interval) == ((0.67, 0.73), "examples")


def test_intervals_stay_within_what_a_metric_can_be() -> None:
    metrics = {name: {"mean": 0.4, "low": -1.4, "high": 1.4} for name in ("f1", "mcc")}
    findings = Findings.of({"finetune": {"metrics": metrics}})
    assert [getattr(findings.score("student", name), "bounds", None) for name in metrics] == [(0.0, 1.0), (-1.0, 1.0)]


def test_a_model_that_did_not_learn_the_task_is_named(result: dict[str, Any]) -> None:
    assert Findings.of(result).unlearned == []
    models = result["finetune"]["models"]
    accuracy = {"mean": 0.5, "low": 0.5, "high": 0.5}
    twin = {**models["twin"], "metrics": {"accuracy": accuracy, "f1": accuracy}}
    flat = {**result, "finetune": {"models": {**models, "twin": twin}}}
    assert Findings.of(flat).unlearned == ["twin"]
    assert "The twin without teacher cannot be told from" in task(Findings.of(flat), {})


def test_lines_of_equal_w_are_drawn_only_where_w_is_savings_over_error(result: dict[str, Any]) -> None:
    assert Findings.of(result).reciprocal
    winner = {**result["search"]["winner"], "w": 0.5}
    assert not Findings.of({**result, "search": {**result["search"], "winner": winner}}).reciprocal


def slower_than_the_maximum_point(result: dict[str, Any]) -> tuple[Findings, dict[str, Any]]:
    """Returns a result in which one candidate was measured 4 % slower than T, as a search records it: with W = 0."""
    point = {**result["search"]["maximum_point"], "i": 5.0}
    candidates = [{**item, "latency": 3.0} for item in result["search"]["candidates"]]
    slow = next(item for item in candidates if item["w"] is not None and item["name"] != result["winner"]["name"])
    slow.update(latency=5.2, w=0.0)
    search = {**result["search"], "maximum_point": point, "latency": {"name": "cpu", "unit": "ms"}, "candidates": candidates}
    p = point["p"]
    for item in candidates:
        if item["w"]:
            item["w"] = (p - item["parameters"]) / p * (5.0 - 3.0) / 5.0 / item["error"]
    winner = next(item for item in candidates if item["name"] == result["winner"]["name"])
    return Findings.of({**result, "search": {**search, "winner": winner}, "winner": winner}), slow


def test_a_candidate_slower_than_the_maximum_point_saves_nothing(result: dict[str, Any]) -> None:
    findings, slow = slower_than_the_maximum_point(result)
    assert findings.savings(slow) == 0.0
    assert all((findings.savings(item) or 0.0) >= 0.0 for item in findings.complete)
    assert findings.reciprocal
    drawn = why(findings)
    assert drawn is not None


def test_the_words_of_a_winner_slower_than_the_maximum_point_name_no_negative_share(result: dict[str, Any]) -> None:
    findings, slow = slower_than_the_maximum_point(result)
    alone = {**findings.search, "winner": slow}
    words = search(Findings.of({**findings.result, "search": alone, "winner": slow}), {})
    assert re.search(r"saves [\d.]+ % of the parameters and 0(\.0)? % of the latency", words)
    assert "−" not in words.split("of the maximum point")[0].rpartition("It saves")[2]


def test_the_search_is_explained_in_words(result: dict[str, Any]) -> None:
    words = search(Findings.of(result), {})
    assert f"of the maximum point {TEACHER}" in words
    assert "saves only" in words


def test_curves_have_each_step_once_in_order() -> None:
    curve = [
        {"step": 2, "loss": 3.0},
        {"step": 1, "loss": 4.0},
        {"step": 2, "loss": 2.0},
        {"step": 3},
        {"step": 4, "loss": None},
        5,
    ]
    assert points({"curve": curve}, "loss") == [(1.0, 4.0), (2.0, 2.0)]


def test_a_result_of_a_newer_version_is_refused() -> None:
    with pytest.raises(RecordError, match="newer version"):
        Findings.of({"schema": 99})


def test_results_of_two_studies_are_refused(result: dict[str, Any]) -> None:
    twin = {**result["distill"]["twin"], "architecture": "D9-A1-H8-I8"}
    with pytest.raises(RecordError, match="not of one study"):
        Findings.of({**result, "distill": {**result["distill"], "twin": twin}})
