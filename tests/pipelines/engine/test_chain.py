"""The whole chain on text and a task made here: undisturbed, killed and resumed, found done, and refused when it is another's."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bort.baselines.names import BASELINES
from bort.files import read_json
from pipelines.app.environment import CONF

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
        "finetune.models=[student,start,twin,random,teacher]",
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
        "export=int8",
        "export.int8_loss=100",
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
    assert set(result["task"]) >= {"student", "start", "twin", "random", "teacher", "majority", "seeds"}
    assert set(result["task"]["gains"]) == {"start", "training", "teacher", "all"}
    assert set(result["task"]["baselines"]) == {*BASELINES, "teacher"}
    for role in ("student", "twin", "teacher"):
        score = result["task"][role]["accuracy"]
        assert score["low"] <= score["mean"] <= score["high"]
        assert len(score["values"]) == 2
    assert set(result["seconds"]) >= {"corpus", "teacher", "search", "distill", "finetune", "export", "benchmark"}
    assert "What was found" in told
    assert (folder / "run" / "report" / "index.html").exists()


#: Run where nothing of this project can be imported: what the export predicts for some texts, in each of its forms.
ELSEWHERE = """
import json, sys
import onnxruntime, torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
home, encoder, texts = sys.argv[1], sys.argv[2], json.load(sys.stdin)
AutoModel.from_pretrained(encoder)
tokens = AutoTokenizer.from_pretrained(home + "/transformers")(texts, padding=True, return_tensors="np")
model = AutoModelForSequenceClassification.from_pretrained(home + "/transformers").eval()
with torch.no_grad():
    found = {"transformers": model(**{name: torch.from_numpy(values) for name, values in tokens.items()}).logits}
for form in ("model", "model_int8"):
    session = onnxruntime.InferenceSession(f"{home}/onnx/{form}.onnx")
    wanted = {node.name for node in session.get_inputs()}
    found[form] = torch.from_numpy(session.run(None, {name: tokens[name] for name in wanted})[0])
assert "bort" not in sys.modules and "pipelines" not in sys.modules
print(json.dumps({form: logits.softmax(-1)[:, model.config.label2id["yes"]].tolist() for form, logits in found.items()}))
"""


def test_the_export_predicts_elsewhere_what_was_trained_here(
    undisturbed: tuple[Path, dict[str, Any], str], task_file: Path, tmp_path: Path
) -> None:
    folder, result, _ = undisturbed
    rows = task_file.read_text().splitlines()
    trained = [json.loads(line) for line in (folder / "run" / "finetune" / "predictions.jsonl").read_text().splitlines()]
    texts = [next(csv.reader([rows[int(one["id"].rpartition(":")[2]) - 1]])) for one in trained]
    assert [label for _, label in texts] == [one["label"] for one in trained]
    told = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, folder / "run" / "export", folder / result["distill"]["student"]],
        input=json.dumps([text for text, _ in texts]),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    ).stdout
    found = json.loads(told)
    expected = [one["probabilities"]["yes"] for one in trained]
    assert found["transformers"] == pytest.approx(expected, abs=1e-5)
    assert found["model"] == pytest.approx(expected, abs=1e-4)
    # int8 was let through by its gate, which is as wide here as can be. It rounds by what stands beside a text in its batch.
    int8 = result["export"]["int8"]
    assert found["model_int8"] == pytest.approx(expected, abs=0.2)
    assert (int8["metric"], int8["examples"], int8["accepted"]) == ("accuracy", len(expected), True)
    assert int8["full_score"] == pytest.approx(
        sum((share > 0.5) == (label == "yes") for share, (_, label) in zip(expected, texts, strict=True)) / len(expected)
    )
    assert int8["bytes"] < int8["full_bytes"]
    card = (folder / "run" / "export" / "transformers" / "README.md").read_text()
    for told in ("distilled from", "the largest W", "## Scores on", "## Cost", "int8"):
        assert told in card, told


def test_the_exported_model_is_registered_with_its_lineage(undisturbed: tuple[Path, dict[str, Any], str]) -> None:
    from mlflow import MlflowClient

    folder, result, _ = undisturbed
    store = f"sqlite:///{folder}/outputs/mlflow.db"
    client = MlflowClient(store, registry_uri=store)
    (model,) = client.search_registered_models()
    (version,) = client.search_model_versions(f"name = '{model.name}'")
    assert model.name == result["export"]["mlflow"]["registered"] == f"tiny-{result['task']['name']}"

    def name(what: str) -> str:
        return client.get_run(version.tags[f"bort.{what}.run"]).data.tags["mlflow.runName"]

    assert name("study") == "tiny search"
    assert name("candidate") == result["winner"]["name"]
    assert name("student") == "tiny distill"
    assert name("finetuned").endswith(" student")
    assert client.get_run(version.run_id).data.tags["mlflow.runName"] == "tiny export"
    kept = {item.path for item in client.list_artifacts(version.run_id)}
    assert "transformers" in kept
    assert "onnx" not in kept, "the model holds that form already"


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
    # A chain is called after what it was told, which here is a great deal.
    (chain,) = children[""]
    assert chain.startswith("tiny reproduce benchmark.repeats=2, ")
    assert {"tiny corpus", "tiny teacher", "tiny search", "tiny distill", "tiny finetune"} <= set(children[chain])
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
    assert "seed: 0 there, 1 here" in told
    assert "another name" in told
    assert "Traceback" not in told
