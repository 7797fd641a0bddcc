"""Losses beside each other: the figures at equal steps and at equal cost, and the drawing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.benchmarks.objectives import ObjectiveRun, compare_objectives, interval, read_runs
from bort.files import write_json
from bort.report.objective_figures import draw_objectives


def run(objective: str, seed: int, per_step: float, slope: float, teacher: float = 0.0) -> ObjectiveRun:
    """A straight curve: after s steps the accuracy is slope · s + seed / 1000."""
    points = [{"step": step, "heldout_mlm_accuracy": slope * step + seed / 1000} for step in (0, 50, 100)]
    return ObjectiveRun(objective, seed, 100, 100 * per_step, teacher, {"mlm_accuracy": slope * 100 + seed / 1000}, points)


RUNS = [run("masked_lm", seed, 1.0, 0.001) for seed in (0, 1, 2)] + [
    run("soft_targets@2", seed, 2.0, 0.003, 40) for seed in (0, 1, 2)
]


def test_runs_are_read_from_finished_distillations(tmp_path: Path) -> None:
    def made(name: str, seed: int, **weights: float) -> Path:
        loss = {**dict.fromkeys(("masked_lm", "soft_targets", "hidden", "relations"), 0.0), "temperature": 2.0, **weights}
        heldout = {"mlm_accuracy": 0.5, "kl": None}
        result = {"steps": 100, "processor_seconds": 9.0, "teacher_processor_seconds": 4.0, "heldout": heldout, "curve": []}
        write_json(tmp_path / name / "result.json", result)
        write_json(tmp_path / name / "manifest.json", {"settings": {"loss": loss, "seed": seed}})
        return tmp_path / name

    mixed, plain = made("a", 0, masked_lm=0.5, soft_targets=0.5), made("b", 1, masked_lm=1.0)
    runs = read_runs([mixed, plain, made("c", 0, masked_lm=1.0), made("d", 0, relations=1.0)])
    named = [(run.objective, run.seed) for run in runs]
    assert named == [("masked_lm", 0), ("masked_lm", 1), ("relations", 0), ("masked_lm+soft_targets@2", 0)]
    # Masked LM alone owes nothing to the teacher, whose pass may have been made for other losses.
    assert [run.teacher_seconds for run in runs] == [0.0, 0.0, 4.0, 4.0]
    assert runs[0].heldout == {"mlm_accuracy": 0.5}


def test_figures_at_equal_steps_and_at_equal_cost() -> None:
    plain, taught = compare_objectives(RUNS)
    assert (plain["name"], taught["name"]) == ("masked LM", "KD, T = 2")
    assert plain["end"]["mlm_accuracy"]["mean"] == pytest.approx(0.101)
    assert taught["end"]["mlm_accuracy"]["mean"] == pytest.approx(0.301)
    # In the 100 seconds that the cheaper training takes the other makes 50 steps, and 30 after the teacher's 40 seconds.
    assert plain["equal_cost"]["mlm_accuracy"]["mean"] == pytest.approx(0.101)
    assert taught["equal_cost"]["mlm_accuracy"]["mean"] == pytest.approx(0.151)
    assert taught["equal_cost_with_teacher"]["mlm_accuracy"]["mean"] == pytest.approx(0.091)
    dear = compare_objectives([*RUNS[:3], run("soft_targets@2", 0, 2.0, 0.003, 101)])[1]
    assert dear["equal_cost_with_teacher"]["mlm_accuracy"] is None


def test_intervals_are_student_s() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0
    assert found["high"] - 2.0 == pytest.approx(2.0 - found["low"]) == pytest.approx(4.3026527 / 3**0.5)
    assert interval([1.0]) == {"mean": 1.0, "low": None, "high": None}


def test_the_figure_is_drawn_with_both_views(tmp_path: Path) -> None:
    drawing = draw_objectives(RUNS)
    drawing.write(tmp_path)
    svg = (tmp_path / "objectives.svg").read_text()
    for words in ("masked-LM accuracy", "training steps", "processor seconds", "masked LM", "KD"):
        assert words in svg
    assert "0.301" in drawing.text
    assert (tmp_path / "objectives.png").stat().st_size > 1000
