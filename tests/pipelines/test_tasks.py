"""Fine-tuning and evaluation on the command line: official layouts, submissions, a run in MLflow for each trial."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from bort.baselines.names import BASELINES
from bort.errors import BortError
from bort.observer import Quiet
from bort.tracking.config import TrackingConfig
from bort.tracking.tracker import Tracker
from pipelines.app.environment import CONF
from pipelines.app.overrides import expand, register_resolvers
from pipelines.engine.chain import Chain
from pipelines.engine.schema import register_schema, typed
from pipelines.finetune import watched

pytestmark = pytest.mark.usefixtures("composing")


def run(stage: str, place: Path, *overrides: str) -> dict[str, Any]:
    given = expand([*overrides, "tracking=off", "impl.device=cpu", f"root={place}", f"outputs={place}"])
    return Chain(typed(compose(stage, overrides=given)), stage, place / stage).run()


@pytest.fixture(scope="module")
def tuned(official: Path, reader: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    register_schema()
    register_resolvers()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return run(
            "finetune",
            tmp_path_factory.mktemp("tuned"),
            "task=superglue/rte",
            f"task.path={official / 'superglue'}",
            "task.steering=8",
            f"student={reader}",
            "finetuning.seeds=[0,1]",
            "finetuning.epochs=1",
            "finetuning.trials=2",
            "finetuning.resamples=20",
        )


def test_a_task_is_fine_tuned_from_its_download(tuned: dict[str, Any]) -> None:
    assert tuned["task"]["name"] == "superglue-rte"
    assert [trial["pruned"] for trial in tuned["trials"]] == [False, False]
    assert (Path(tuned["model"]) / "model.safetensors").is_file()


def test_baselines_stand_beside_the_fine_tuned_models(tuned: dict[str, Any]) -> None:
    assert list(tuned["baselines"]) == list(BASELINES)
    for record in tuned["baselines"].values():
        assert set(record["accuracy"]) == {"mean", "low", "high"}
        assert {"parameters", "latency_ms", "processor_seconds"} <= set(record)
    assert {row["name"] for row in tuned["comparison"]["rows"]} == {"student", *BASELINES}
    assert tuned["models"]["student"]["latency_ms"] > 0


def test_a_model_is_evaluated_and_its_submission_joins_those_of_other_tasks(
    tuned: dict[str, Any], official: Path, tmp_path: Path
) -> None:
    diagnostic = [f"model={tuned['model']}", "task=superglue/ax_g", f"task.path={official / 'superglue'}"]
    first = run("evaluate", tmp_path / "ax", *diagnostic)
    assert set(first["metrics"]) == {"gender_parity", "accuracy"}
    task = [f"model={tuned['model']}", "task=superglue/rte", f"task.path={official / 'superglue'}", "task.steering=8"]
    second = run("evaluate", tmp_path / "rte", *task, f"evaluate.submissions=[{first['submission']['file']}]")
    assert second["metrics"]["accuracy"]["value"] in tuned["metrics"]["accuracy"]["values"]
    with zipfile.ZipFile(second["submission"]["suite_zip"]) as archive:
        assert archive.namelist() == ["AX-g.jsonl", "RTE.jsonl"]
    assert (second["submission"]["suite"], len(second["submission"]["missing"])) == ("SuperGLUE", 8)


def test_a_diagnostic_set_is_not_trained_on(official: Path, reader: Path, tmp_path: Path) -> None:
    with pytest.raises(BortError, match="nothing to train on"):
        run("finetune", tmp_path, "task=glue/ax", f"task.path={official / 'glue'}", f"student={reader}")


def test_each_trial_is_a_run_under_the_search(tmp_path: Path) -> None:
    with Tracker(TrackingConfig(uri=f"sqlite:///{tmp_path / 'runs.db'}"), tmp_path) as tracker:
        parent = tracker.run("rte student", key="stage/student")
        with watched(parent, Quiet())(3, {"learning_rate": 1e-3}) as told:
            told.metrics({"loss": 1.5}, 1)
    events = [json.loads(line) for line in (tmp_path / "tracking.jsonl").read_text().splitlines()]
    child = [event for event in events if event.get("run") == "stage/student/trial3"]
    assert child[0]["parent"] == "stage/student"
    assert {"learning_rate": "0.001"} in [event.get("values") for event in child]
    assert any(event["event"] == "metrics" and event["points"][0][:3] == ["loss", 1.5, 1] for event in child)
    assert child[-1]["event"] == "finish"
