"""The figures and the section of replayed searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bort.report.page import build_report
from bort.report.replay_figures import in_short, replay_figures, replays


def share(value: float) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - 0.05), "high": min(1.0, value + 0.05)}


def result() -> dict[str, Any]:
    rows = [
        {
            "table": table,
            "strategy": strategy,
            "budget": budget,
            "replays": 200,
            "success": share(success * budget),
            "near": share(min(1.0, 2 * success * budget)),
            "regret": share(0.1 - success * budget / 20),
            "worst": 0.3,
            "cost": {"mean": 0.9 * budget, "most": budget},
        }
        for table in ("drawn", "measured")
        for budget in (0.05, 0.1, 0.5)
        for strategy, success in (("bound", 2.0), ("ose", 0.8), ("random", 0.5))
    ]
    bench = {
        "candidates": 96,
        "rungs": [10, 20],
        "winner": {"name": "D2-A2-H128-I256"},
        "margin": 0.0014,
        "drawn_winners": {"a": 3, "b": 1},
    }
    return {"stage": "benchmark_search", "rows": rows, "benchmark": bench, "settings": {"confidence": 0.95}}


def test_each_kind_of_table_has_its_figure() -> None:
    drawings = replay_figures(result())
    assert [drawing.name for drawing in drawings] == ["replay", "replay_measured"]
    assert "bound found the exhaustive winner in 20 % of replays, ose in 8 %, random in 5 %" in drawings[0].text
    assert drawings[0].svg.count("<title>bound, ") == 3 * 3
    one = result()
    one["rows"] = [row for row in one["rows"] if row["budget"] == 0.1]
    assert replay_figures(one) == []
    assert replay_figures({}) == []


def test_a_result_alone_makes_a_page(tmp_path: Path) -> None:
    page = build_report(result(), tmp_path).read_text(encoding="utf-8")
    assert 'id="replays"' in page
    assert "With 10\u00a0% of the exhaustive steps bound found the exhaustive winner in 20\u00a0% of replays" in page
    assert "In the drawn tables 2 architectures win at least once" in page
    assert (tmp_path / "figures" / "replay.svg").exists()


def test_without_replays_there_is_no_section() -> None:
    assert replays({}, {}) == ""
    assert in_short({}) == ""
