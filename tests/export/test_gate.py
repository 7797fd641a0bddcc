"""What decides whether int8 is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.export import gate as room
from bort.export.gate import Gate, judge, quantised
from bort.observer import Quiet


class Listener(Quiet):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in float32; quantising it writes how many operators it was done to."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"0" * 100)
    monkeypatch.setattr(room, "quantise", lambda source, target, operators: target.write_text("#" * (40 // len(operators))))
    return path


def a_gate(scores: dict[str, float]) -> Gate:
    """A gate that tells a file by its length: 100 in full, 20 with all quantised, 40 with the embedding alone."""
    return Gate(
        "reviews", "accuracy", 4, lambda path: (scores[str(path.stat().st_size)], [1.0, 0.0, 0.0, scores[str(path.stat().st_size)]])
    )


def test_the_smallest_that_passes_is_kept(full: Path) -> None:
    small, told = full.with_name("small.onnx"), Listener()
    found = quantised(full, small, a_gate({"100": 0.9, "20": 0.897}), 0.5, told)
    assert found["accepted"] is True
    assert (found["quantised"], found["full_bytes"], found["bytes"]) == ("weights and embedding", 100, 20)
    assert (found["metric"], found["examples"], found["task"], found["tried"]) == ("accuracy", 4, "reviews", [])
    assert found["lost"] == pytest.approx(0.3)
    assert found["changed"] == 1
    assert small.stat().st_size == 20
    assert told.warnings == []


def test_what_loses_too_much_falls_back_to_the_embedding_alone_and_says_so(full: Path) -> None:
    small, told = full.with_name("small.onnx"), Listener()
    found = quantised(full, small, a_gate({"100": 0.9, "20": 0.8, "40": 0.9}), 0.5, told)
    assert found["accepted"] is True
    assert (found["quantised"], found["lost"], small.stat().st_size) == ("embedding alone", 0.0, 40)
    assert [(form["quantised"], form["bytes"], form["accepted"]) for form in found["tried"]] == [
        ("weights and embedding", 20, False)
    ]
    assert told.warnings == [
        "int8 (weights and embedding) loses 10.00 points of accuracy (90.00 to 80.00 on 4 held-out examples of reviews), more than "
        "the 0.5 of export.int8_loss, and was not kept."
    ]


def test_where_nothing_passes_nothing_is_kept(full: Path) -> None:
    small, told = full.with_name("small.onnx"), Listener()
    found = quantised(full, small, a_gate({"100": 0.9, "20": 0.8, "40": 0.85}), 0.5, told)
    assert found["accepted"] is False
    assert [form["lost"] for form in found["tried"]] == [pytest.approx(10.0), pytest.approx(5.0)]
    assert not small.exists()
    assert len(told.warnings) == 2


def test_without_a_task_int8_is_not_judged_and_that_is_said(full: Path) -> None:
    small, told = full.with_name("small.onnx"), Listener()
    assert quantised(full, small, None, 0.5, told)["accepted"] is None
    assert small.exists()
    assert "kept without a judge" in told.warnings[0]


@pytest.mark.parametrize(
    ("before", "after", "allowed", "accepted"),
    [(0.8, 0.796, 0.5, True), (0.8, 0.794, 0.5, False), (0.8, 0.9, 0.0, True), (0.8, float("nan"), 0.5, False)],
)
def test_the_gate_counts_in_points(before: float, after: float, allowed: float, accepted: bool) -> None:
    assert judge((before, [0.0]), (after, [0.0]), allowed)["accepted"] is accepted
