"""Models beside the baselines, in a figure and a table."""

from __future__ import annotations

from bort.baselines.comparison import compare
from bort.report.baselines import baseline_scores, baseline_table
from bort.report.reading import Findings
from tests.report.example import example_result


def findings(with_baselines: bool = True) -> Findings:
    result = example_result()
    if with_baselines:
        models = result["finetune"]["models"]
        for place, model in enumerate(models.values()):
            model |= {"latency_ms": 2.0 + place, "cost": {"processor_seconds": 60.0}}
        score = {"mean": 0.9, "low": 0.88, "high": 0.92}
        costs = {"parameters": 70_000, "latency_ms": 0.1, "processor_seconds": 3.0}
        baselines = {"tfidf": {"title": "TF-IDF", **dict.fromkeys(models["student"]["metrics"], score), **costs}}
        metric = next(iter(models["student"]["metrics"]))
        result["finetune"]["comparison"] = compare(metric, models, baselines)
    return Findings.of(result)


def test_every_row_is_drawn_against_latency_and_size():
    drawing = baseline_scores(findings())
    assert drawing is not None
    assert drawing.svg.count("TF-IDF: 90.0") == 2, "a point for each axis"
    assert "dominated by tfidf (0.900)" in drawing.text


def test_the_table_names_what_dominates_the_student():
    page = baseline_table(findings())
    assert "TF-IDF" in page
    assert "is dominated by tfidf (0.900)" in page


def test_without_baselines_there_is_nothing():
    assert baseline_scores(findings(with_baselines=False)) is None
    assert baseline_table(findings(with_baselines=False)) == ""
