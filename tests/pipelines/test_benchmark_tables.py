"""What a person reads of a benchmark: its findings as sentences, and the cells of its tables."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from pipelines import benchmark_tables


def shown(found: RenderableType) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(found)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_agoras_verdict_is_a_sentence_with_its_interval_and_its_worst_case() -> None:
    worst = {"task": "rte", "size": 1000, "difference": -0.24}
    verdict: dict[str, Any] = {"mean": 1.26, "low": 0.5, "high": 2.0, "worst": worst, "met": True}
    told = benchmark_tables.agora_verdict({"verdict": verdict})
    assert told == "+1.3 [+0.5, +2.0] points against plain fine-tuning, at worst -0.2 (rte with 1,000); target met"
    # One seed has no interval.
    told = benchmark_tables.agora_verdict({"verdict": {**verdict, "low": None, "high": None, "met": False}})
    assert told == "+1.3 points against plain fine-tuning, at worst -0.2 (rte with 1,000); target not met"
    assert benchmark_tables.agora_verdict({}) == "no comparison of Agora with plain fine-tuning was asked for"


def test_replays_are_summed_up_at_a_tenth_of_the_steps_or_the_first_budget_above() -> None:
    def row(strategy: str, budget: float, value: float) -> dict[str, Any]:
        return {"strategy": strategy, "budget": budget, "success": {"value": value, "low": 0.25, "high": 0.75}, "replays": 24}

    rows = [row("bound", 0.05, 0.1), row("ose", 0.2, 0.9), row("bound", 0.2, 0.5), row("bound", 1.0, 1.0)]
    result = {"settings": {"strategies": ["bound", "ose"]}, "rows": rows}
    told = "bound found the exhaustive winner in 50.0% [25.0, 75.0] of 24 replays with 20% of its steps"
    assert benchmark_tables.replay_headline(result) == told
    # Where every budget is smaller, the largest is told of.
    assert "in 10.0%" in benchmark_tables.replay_headline({**result, "rows": rows[:1]})


def test_objectives_that_lack_a_figure_have_a_dash() -> None:
    once, twice = {"mean": 0.5, "low": None, "high": None}, {"mean": 1.25, "low": 1.0, "high": 1.5}
    costs = {"processor_seconds": {"mean": 12.0}, "teacher_seconds": 3.0, "steps": 1500}
    rows = [
        {"name": "masked_lm", "end": {"loss": once}, **costs},
        {"name": "relations", "end": {"loss": once, "kl": twice}, **costs},
    ]
    lines = shown(benchmark_tables.objectives({"rows": rows})).splitlines()
    assert lines[0].strip() == "Objectives after 1,500 steps"
    assert lines[2].split() == ["masked_lm", "0.500", "–", "12", "3"]
    assert lines[3].split() == ["relations", "0.500", "1.250", "[1.000,", "1.500]", "12", "3"]


def test_the_workers_table_tells_speed_up_and_efficiency() -> None:
    rows = [{"engine": "ray", "workers": 4, "seconds": [8.25, 8.5], "speedup": 3.9, "efficiency": 0.97}]
    told = shown(benchmark_tables.workers({"candidates": 32, "candidate_seconds": 1.0, "rows": rows}))
    for part in ("32 candidates of 1 s each", "ray", "8.25, 8.50", "3.90×", "97.0%"):
        assert part in told
