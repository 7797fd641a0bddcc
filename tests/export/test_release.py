"""What is told of an exported model where models are kept, from the result of its export and the stages it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bort.export.config import ExportConfig
from bort.export.lineage import Made
from bort.export.release import description, folders_beside, form_metrics, registered_name, served_form, served_metrics, subject

MADE = {
    stage: Made(Path(stage), f"{stage}-1", {}, {"task": {"name": "glue-rte", "kind": "classification"}})
    for stage in ("finetune", "distill", "corpus", "search")
}
PLAIN: dict[str, Any] = {
    "kind": "classifier",
    "size": {"architecture": "D2-A4-H128-I512", "total": 4_420_000},
    "transformers": {"bytes": 400, "difference": 0.0},
}
FULL = {**PLAIN, "onnx": {"bytes": 410, "difference": 1e-6}}
JUDGED = {"bytes": 110, "difference": None, "metric": "accuracy", "full_score": 0.7, "score": 0.69, "lost": 1.0, "examples": 277}


def with_int8(**changes: Any) -> dict[str, Any]:
    return {**FULL, "int8": {**JUDGED, **changes}}


@pytest.mark.parametrize(
    ("result", "form", "metrics"),
    [
        (PLAIN, "transformers", {"served/bytes": 400}),
        (FULL, "onnx", {"served/bytes": 410}),
        (with_int8(accepted=True), "int8", {"served/bytes": 110, "served/accuracy": 0.69}),
        (with_int8(accepted=False), "onnx", {"served/bytes": 410, "served/accuracy": 0.7}),
        # What no task has judged does not answer for the model.
        ({**FULL, "int8": {"bytes": 110, "difference": 0.1}}, "onnx", {"served/bytes": 410}),
    ],
)
def test_what_is_served_is_the_smallest_form_accepted(result: dict[str, Any], form: str, metrics: dict[str, float]) -> None:
    assert served_form(result) == form
    assert served_metrics(result) == metrics


def test_every_form_has_its_figures() -> None:
    assert form_metrics(with_int8(accepted=True)) == {
        "transformers/bytes": 400, "transformers/difference": 0.0, "onnx/bytes": 410, "onnx/difference": 1e-6,
        "int8/bytes": 110, "int8/score": 0.69, "int8/lost": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("result", "served", "kept"),
    [
        (FULL, True, ["transformers"]),
        (FULL, False, ["transformers", "onnx"]),
        (PLAIN, True, []),
        (PLAIN, False, ["transformers"]),
    ],
)
def test_the_same_weights_are_not_kept_twice(result: dict[str, Any], served: bool, kept: list[str]) -> None:
    assert folders_beside(result, served=served) == kept


def test_a_model_is_named_after_its_run_and_what_it_is_for() -> None:
    distilled = {stage: MADE[stage] for stage in ("distill", "corpus")}
    assert [subject(made) for made in (MADE, distilled, {})] == ["glue-rte", "student", "model"]
    assert registered_name(ExportConfig(), "demo", MADE) == "demo-glue-rte"
    # What the registry does not take is left out of a name that nobody chose.
    assert registered_name(ExportConfig(), "v1.2/a", {}) == "v1-2-a-model"
    assert registered_name(ExportConfig(registered_model="mine"), "demo", MADE) == "mine"
    assert registered_name(ExportConfig(registered_model=""), "demo", MADE) is None


def test_a_description_names_the_runs_and_what_int8_loses() -> None:
    assert description(with_int8(accepted=False), MADE).splitlines() == [
        "D2-A4-H128-I512, 4.4 M parameters, glue-rte; a classifier.",
        "",
        "Made by search (`search-1`), distill (`distill-1`), finetune (`finetune-1`); the tags name the runs.",
        "",
        "int8 not kept: accuracy 0.7000 → 0.6900, 277 examples.",
    ]
    assert description(FULL, {}) == "D2-A4-H128-I512, 4.4 M parameters, model; a classifier."
