"""`bort export` on fine-tuned models of official tasks: int8 by their metric, the card by their records, and what is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console

from bort.errors import BortError, ConfigurationError
from bort.tracking.model import SERVES
from pipelines import tables
from pipelines.app.environment import CONF
from pipelines.app.overrides import expand, register_resolvers
from pipelines.engine.chain import Chain
from pipelines.engine.schema import register_schema, typed

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the export extra is not installed: pip install 'bort[export]'")
#: A task of pairs, whose texts are told apart by token types, and one of options, each a sequence of its own.
TASKS = {"superglue/rte": "classification", "superglue/copa": "choice"}


def run(stage: str, place: Path, *overrides: str) -> dict[str, Any]:
    register_schema()
    register_resolvers()
    given = expand(
        [*overrides, "tracking=off", "impl.device=cpu", "impl.threads=1", f"root={place}", f"outputs={place}", "name=tiny"]
    )
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return Chain(typed(compose(stage, overrides=given)), stage, place / stage).run()


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


@pytest.fixture(scope="module")
def tuned(official: Path, reader: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A fine-tuned model of each task, by one epoch of one seed."""
    short = ["finetuning.seeds=[0]", "finetuning.epochs=1", "finetuning.trials=0", "finetuning.resamples=10"]
    return {
        task: run(
            "finetune",
            tmp_path_factory.mktemp("tuned"),
            *(f"task={task}", f"task.path={official / 'superglue'}", "task.steering=4", f"student={reader}", *short),
        )
        for task in TASKS
    }


@needs_onnx
@pytest.mark.parametrize("task", TASKS)
def test_int8_is_judged_by_the_tasks_own_metric(tuned: dict[str, Any], official: Path, tmp_path: Path, task: str) -> None:
    of_task = [f"model={tuned[task]['model']}", f"task={task}", f"task.path={official / 'superglue'}", "task.steering=4"]
    result = run("export", tmp_path, *of_task, "export=int8", "export.int8_loss=100", "export.checks=2")
    int8 = result["int8"]
    assert (int8["task"], int8["metric"]) == (tuned[task]["task"]["name"], "accuracy")
    assert int8["examples"] == tuned[task]["task"]["examples"]["heldout"]
    # The ONNX file reads pairs and options as the model did when it was trained.
    assert int8["full_score"] == tuned[task]["metrics"]["accuracy"]["mean"]
    assert int8["bytes"] < int8["full_bytes"]
    assert int8["accepted"] is True
    assert result["serves"] == TASKS[task] in SERVES
    assert (Path(result["mlflow"]["path"]) / "artifacts" / "model" / "model.onnx").stat().st_size == int8["bytes"]
    assert result["mlflow"]["registered"] == f"tiny-{tuned[task]['task']['name']}"
    assert list(result["mlflow"]["lineage"]) == ["finetuned"]
    card = Path(result["card"]).read_text(encoding="utf-8")
    assert f"## Scores on {tuned[task]['task']['name']}" in card
    assert "| finetune |" in card
    console = Console(width=160)
    with console.capture() as captured:
        console.print(tables.export(result))
    shown = captured.get()
    for told in ("int8 by accuracy", "held-out examples", "points lost", "kept", f"{int8['score']:.4f}"):
        assert told in shown


@needs_onnx
def test_int8_that_fails_is_kept_out_of_everything(tuned: dict[str, Any], official: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from bort.export import gate

    failed = {"full_score": 0.9, "score": 0.8, "lost": 10.0, "changed": 1, "accepted": False}
    monkeypatch.setattr(gate, "judge", lambda before, after, allowed: dict(failed))
    task = "superglue/rte"
    of_task = [f"model={tuned[task]['model']}", f"task={task}", f"task.path={official / 'superglue'}", "task.steering=4"]
    result = run("export", tmp_path, *of_task, "export=int8", "export.checks=2", "export.registered_model=''")
    assert result["int8"]["path"] is None
    assert [path.name for path in (tmp_path / "export" / "onnx").iterdir()] == ["model.onnx"]
    assert (Path(result["mlflow"]["path"]) / "artifacts" / "model" / "model.onnx").stat().st_size == result["onnx"]["bytes"]
    assert result["mlflow"]["registered"] is None
    console = Console(width=160)
    with console.capture() as captured:
        console.print(tables.export(result))
    assert captured.get().count("not kept") == 3, "of the form itself, and of each way that was tried"
    assert "not kept: loses 10.00 points of accuracy" in Path(result["card"]).read_text(encoding="utf-8")


def test_a_student_without_a_task_is_exported_by_name(reader: Path, tmp_path: Path) -> None:
    # The task of the configuration is not there, and is not needed.
    result = run("export", tmp_path, f"model={reader}", "export.onnx=false", "task.path=nowhere")
    assert (result["kind"], result["serves"]) == ("masked language model", "words")
    assert result["mlflow"]["runtime"] == "torch"
    assert result["mlflow"]["registered"] == "tiny-model"
    assert "onnx" not in result


def test_a_model_of_another_task_is_refused_before_work(tuned: dict[str, Any], official: Path, tmp_path: Path) -> None:
    wrong = [f"model={tuned['superglue/rte']['model']}", "task=superglue/copa", f"task.path={official / 'superglue'}"]
    with pytest.raises(BortError, match="fine-tuned for a classification and task superglue-copa is a choice"):
        run("export", tmp_path, *wrong, "task.steering=4", "export=int8")
    assert not (tmp_path / "export" / "transformers").exists()


def test_settings_that_cannot_be_exported_are_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"finetuning.pooling=mean .*must be first"):
        run("export", tmp_path, "finetuning.pooling=mean")
    with pytest.raises(ConfigurationError, match=r"export.registered_model=a/b .*a name without"):
        run("export", tmp_path, "export.registered_model=a/b")
    with pytest.raises(BortError, match="task"):
        run("export", tmp_path, "export=int8", "task.path=nowhere")
    assert not list(tmp_path.glob("export/*"))
