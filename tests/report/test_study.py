"""A report shows one study: what it was asked, made from, and what others published on its task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bort.errors import RecordError
from bort.measure.published import GLUE, SUPER_GLUE
from bort.report.page import build_report
from bort.report.reading import Findings
from bort.report.sections import published
from tests.report.example import example_result


def studied(**changes: Any) -> dict[str, Any]:
    """Returns the example as the result of stages that were made from each other."""
    machine = {"processor": "Example CPU", "processors": 2, "versions": {"planner": "2.99"}}
    made = {"schema": 1, "machine": machine, "bort": "0.1.0", "finished": 1.8e9, "command": "bort reproduce experiment=demo"}
    stages = {
        "search": {**made, "digest": "a", "inputs": {"corpus": "c"}},
        "distill": {**made, "digest": "b", "inputs": {"search": "a", "corpus": "c"}},
        # Its teacher is a folder of files, not the stage.
        "teacher": {**made, "digest": "f", "inputs": {"corpus": "c", "teacher": "files"}},
        "benchmark": {**made, "digest": "g", "inputs": {"distill": "b", "teacher": "files"}},
        "finetune": {**made, "digest": "d", "inputs": {"distill": "b", "task": "t"}},
    }
    for name, change in changes.items():
        stages[name].update(change)
    return {**example_result(), "stages": stages, "commands": ["bort reproduce tracking.uri=postgresql://me:planted@host/db"]}


def text_of(result: dict[str, Any], folder: Path) -> str:
    page = build_report(result, folder).read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ")


def test_what_was_asked_and_how_it_was_run(tmp_path: Path) -> None:
    text = text_of(studied(), tmp_path)
    assert (
        "Asked for: the architecture with the largest W, by the strategy bound, with the error e bought by short distillation"
        in text
    )
    assert "Example CPU, 2 processors" in text
    assert "2027-01-15 08:00 UTC" in text
    assert "planner 2.99" in text
    assert "for fine-tuning" in text
    assert "postgresql://me:***@host/db" in text
    assert "planted" not in text


def test_stages_of_two_studies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="The distill stage was made from another search than the one beside it"):
        build_report(studied(search={"digest": "other"}), tmp_path)
    with pytest.raises(RecordError, match="The search stage's manifest has schema 9, written by a newer version of Bort"):
        build_report(studied(search={"schema": 9}), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("task", "metrics", "models", "shown"),
    [
        ("glue-mnli", ["accuracy"], GLUE, ("88.1", "86.7")),
        ("glue-mrpc", ["accuracy", "f1"], GLUE, ("94.1", "92.3", "87.6")),
        ("superglue-ax-g", ["accuracy", "parity"], SUPER_GLUE, ("96.1", "61.5")),
        ("glue-diagnostics", ["mcc"], (), ()),
        ("reviews", ["accuracy"], (), ()),
    ],
)
def test_published_scores_stand_beside_ours(task: str, metrics: list[str], models: Any, shown: tuple[str, ...]) -> None:
    score = {"mean": 0.876, "low": 0.87, "high": 0.88, "values": [0.876]}
    record = {"task": {"name": task}, "metrics": dict.fromkeys(metrics, score), "interval": {"metric": metrics[0]}}
    told = published(Findings.of({"stage": "finetune", "models": {"student": record}}))
    assert bool(told) is bool(models)
    for model in models:
        assert model.model in told
        assert f"{model.source}, {model.trust}" in told
    for figure in shown:
        assert f">{figure}<" in told
    if models:
        assert "ours: student" in told
        assert ">87.6<" in told


def test_agoras_iterations_are_shown_for_each_model_it_tuned(tmp_path: Path) -> None:
    result = example_result()
    ledger = [
        {"best": {"steering": 0.7}, "heldout": {"accuracy": 0.65}, "left": [0, 1, 2], "kept": 40, "points": 40},
        {"best": {"steering": 0.75}, "heldout": {"accuracy": 0.72}, "left": [1], "kept": 12, "points": 52},
    ]
    tuned = result["finetune"]["models"]["student"]
    tuned["task"] = result["finetune"]["task"]
    tuned["interval"] = {"metric": "accuracy"}
    tuned["seeds"] = [{"seed": 4, "ledger": ledger, "labeller": {"steering": {"accuracy": 0.81}}}]
    text = text_of(result, tmp_path)
    assert "Agora with the student, seed 4; its labeller is right on 81.0 % of the steering examples" in text
    assert "75.0 % 72.0 %" in text
    assert (tmp_path / "figures" / "ledger_student.svg").exists()
