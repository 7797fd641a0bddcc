"""The whole chain on text and a task made here: undisturbed, killed and resumed, found done, and refused when it is another's."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bort.files import read_json
from pipelines.sentences import CONF

pytestmark = pytest.mark.slow
SECONDS = 300


@pytest.fixture(scope="module")
def task_file(tiny_documents: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences with a word that tells their class."""
    draw = random.Random(0)
    words = " ".join(tiny_documents).split()
    path = tmp_path_factory.mktemp("task") / "task.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(120):
            label = number % 2
            text = " ".join(draw.choices(words, k=5))
            writer.writerow([f"{'the cat' if label else 'a farmer'} {text} {number}", "yes" if label else "no"])
    return path


@pytest.fixture(scope="module")
def overrides(tiny_teacher_directory: Path, tiny_text_directory: Path, task_file: Path) -> list[str]:
    return [
        f"teacher={tiny_teacher_directory}",
        f"corpus={tiny_text_directory}",
        "corpus.block_length=32",
        "corpus.heldout=0.2",
        "targets.blocks=64",
        "targets.heldout_blocks=8",
        "search_space.depth=[1,2]",
        "search_space.heads=[2]",
        "search_space.hidden=[8,16]",
        "search_space.intermediate=[16]",
        "loss=relations",
        "loss.relation_heads=2",
        "error.steps=4",
        "error.rungs=2",
        "error.measure=relation_kl",
        "train.batch_size=4",
        "train.warmup_steps=1",
        "budget.steps=12",
        "budget.checkpoint_every=4",
        "finetune.models=[student,twin,teacher]",
        "task=custom",
        f"task.train={task_file}",
        "task.text=text",
        "task.label=label",
        "finetuning.seeds=[0,1]",
        "finetuning.epochs=1",
        "finetuning.trials=2",
        "finetuning.search={learning_rate:{low:0.001,high:0.003}}",
        "benchmark.repeats=2",
        "benchmark.warmup=0",
        "benchmark.resamples=100",
        "benchmark.sequence_length=[16]",
        "impl.threads=1",
        "name=tiny",
    ]


def command(folder: Path, overrides: list[str], stage: str = "reproduce") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1", "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines", stage, *overrides, "hydra.run.dir=run", "root=run"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told
    return told


def killed_at(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    """Kills the process as soon as a file of that pattern is there."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and process.poll() is None:
        if any(folder.glob(pattern)):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGKILL, f"it ended before {pattern} came: {told}"


@pytest.fixture(scope="module")
def undisturbed(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    told = finished(command(folder, overrides))
    return folder, read_json(folder / "run" / "result.json"), told


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on interruptions: everything but times and paths."""
    search = [(item["name"], item["state"], item["curve"]) for item in result["search"]["candidates"]]
    models = {role: (model["theta"], model["metrics"]) for role, model in result["finetune"]["models"].items()}
    curves = [[{key: value for key, value in point.items() if "second" not in key} for point in result["distill"]["curve"]]]
    heldout = (result["distill"]["heldout"], result["distill"]["twin"]["heldout"])
    return {"winner": result["winner"], "search": search, "heldout": heldout, "curves": curves, "task": models}


def test_the_chain_gives_what_it_promises(undisturbed: tuple[Path, dict[str, Any], str]) -> None:
    folder, result, told = undisturbed
    assert result["schema"] == 1
    assert {"winner", "candidates", "student", "task", "export", "latency", "seconds", "mlflow"} <= result.keys()
    assert len(result["candidates"]) == 4
    assert result["winner"]["w"] == max(item["w"] for item in result["candidates"])
    assert set(result["task"]) >= {"student", "twin", "teacher", "majority", "seeds"}
    for role in ("student", "twin", "teacher"):
        score = result["task"][role]["accuracy"]
        assert score["low"] <= score["mean"] <= score["high"]
        assert len(score["values"]) == 2
    assert set(result["seconds"]) >= {"corpus", "teacher", "search", "distill", "finetune", "export", "benchmark"}
    assert "What was found" in told
    assert (folder / "run" / "report" / "index.html").exists()


def test_the_student_and_the_export_load_without_our_code(undisturbed: tuple[Path, dict[str, Any], str]) -> None:
    import onnxruntime
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    folder, result, _ = undisturbed
    encoder = AutoModel.from_pretrained(folder / result["distill"]["student"])
    assert encoder.config.hidden_size == result["winner"]["hidden"]
    exported = folder / "run" / "export" / "transformers"
    model = AutoModelForSequenceClassification.from_pretrained(exported)
    assert set(model.config.id2label.values()) == {"yes", "no"}
    tokens = AutoTokenizer.from_pretrained(exported)(["the cat watches the bread", "a farmer"], padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(folder / "run" / "export" / "onnx" / "model.onnx")
    wanted = {item.name for item in session.get_inputs()}
    (ours,) = session.run(None, {name: values for name, values in tokens.items() if name in wanted})
    theirs = model(**{name: torch.from_numpy(values) for name, values in tokens.items()}).logits.detach().numpy()
    assert abs(ours - theirs).max() < 1e-4


def test_mlflow_has_a_tree_of_runs(undisturbed: tuple[Path, dict[str, Any], str]) -> None:
    from mlflow import MlflowClient

    folder, result, _ = undisturbed
    client = MlflowClient(f"sqlite:///{folder}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("bort")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: run.data.tags["mlflow.runName"] for run in runs}
    children: dict[str, list[str]] = {}
    for run in runs:
        parent = run.data.tags.get("mlflow.parentRunId")
        children.setdefault(names.get(parent, ""), []).append(run.data.tags["mlflow.runName"])
    assert children[""] == ["tiny reproduce"]
    assert {"tiny corpus", "tiny teacher", "tiny search", "tiny distill", "tiny finetune"} <= set(children["tiny reproduce"])
    assert sorted(children["tiny search"]) == sorted(item["name"] for item in result["candidates"])
    assert all(run.info.status == "FINISHED" for run in runs)
    candidate = next(run for run in runs if run.data.tags["mlflow.runName"] == result["winner"]["name"])
    assert candidate.data.metrics["w"] == pytest.approx(result["winner"]["w"])
    assert candidate.data.params["hidden"] == str(result["winner"]["hidden"])
    assert any(item.path.endswith("checkpoint") for item in client.list_artifacts(candidate.info.run_id))


def test_run_again_it_is_found_done(undisturbed: tuple[Path, dict[str, Any], str], overrides: list[str]) -> None:
    folder, _, _ = undisturbed
    before = (folder / "run" / "result.json").stat().st_mtime_ns
    told = finished(command(folder, overrides))
    assert "What was found" in told
    assert (folder / "run" / "result.json").stat().st_mtime_ns == before


def test_killed_and_run_again_it_ends_in_the_same_result(
    undisturbed: tuple[Path, dict[str, Any], str], overrides: list[str], tmp_path: Path
) -> None:
    for pattern in ("run/search/candidates/*/*", "run/distill/twin/checkpoints/*", "run/finetune/twin/seeds/*"):
        killed_at(command(tmp_path, overrides), tmp_path, pattern)
    finished(command(tmp_path, overrides))
    assert figures(read_json(tmp_path / "run" / "result.json")) == figures(undisturbed[1])


def test_a_folder_of_another_configuration_is_refused(undisturbed: tuple[Path, dict[str, Any], str], overrides: list[str]) -> None:
    folder, _, _ = undisturbed
    process = command(folder, [*overrides, "seed=1"])
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "seed: 0 → 1" in told
    assert "another name" in told
    assert "Traceback" not in told
