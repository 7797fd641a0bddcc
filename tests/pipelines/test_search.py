"""`bort search` on its own: latencies that are measured, and what cannot be searched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bort.measure.latency_config import PERCENTILES
from pipelines.app.main import entry

SPACE = [
    "search_space.depth=[1,2]",
    "search_space.heads=[2,4]",
    "search_space.hidden=[8,16]",
    "search_space.intermediate=[16]",
    "search_space.maximum_point=6-4-64-256",
]


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `bort search` in this process, where torch is imported already; returns status, standard error and the folder."""

    def run(*overrides: str) -> tuple[int, str, Path]:
        folder = tmp_path / "search"
        arguments = [*SPACE, "tracking=off", f"outputs={tmp_path}", f"hydra.run.dir={folder}", *overrides]
        monkeypatch.setattr(sys, "argv", ["bort search", *arguments])
        monkeypatch.chdir(tmp_path)
        status = 0
        try:
            entry("search")()
        except SystemExit as ended:
            status = int(ended.code or 0)
        return status, capsys.readouterr().err, folder

    return run


def test_a_measured_latency_goes_from_the_machine_into_the_result(search: Any) -> None:
    measured = ["error=proxy", "latency=cpu", "latency.repeats=5", "latency.sequence_length=16"]
    status, told, folder = search(*measured)
    assert status == 0, told
    result, record = (json.loads((folder / name).read_text()) for name in ("result.json", "latencies.json"))
    assert result["latency"]["name"] == "cpu"
    assert result["latency"]["unit"] == "ms"
    assert result["latency"]["sequence_length"] == 16
    assert {"batch", "threads", "processor", "load", "versions", "busy"} <= result["latency"].keys()
    assert result["maximum_point"]["i"] == record["rows"]["D6-A4-H64-I256"]["p50_ms"]
    for candidate in [*result["candidates"], result["winner"]]:
        assert candidate["percentiles"] == {name: record["rows"][candidate["name"]][name] for name in PERCENTILES}
        assert candidate["latency"] == candidate["percentiles"]["p50_ms"]
    # A limit that the slowest exceeds and the fastest keeps.
    times = sorted(candidate["latency"] for candidate in result["candidates"])
    (folder / "result.json").unlink()
    (folder / "manifest.json").unlink()
    limit = f"search.max_latency_ms={times[2]}"
    status, told, _ = search(*measured, limit, "storage.study=limited")
    assert status == 0, told
    limited = json.loads((folder / "result.json").read_text())
    assert limited["constraints"]["limits"]["max_latency_ms"]["within"] == len(limited["candidates"]) == 3
    assert json.loads((folder / "latencies.json").read_text()) == record, "what was measured is not measured again"


def test_a_latency_that_this_machine_cannot_measure_is_refused(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, told, folder = search("error=proxy", "latency=gpu")
    assert (status, list(folder.rglob("*.json"))) == (1, [])
    assert "latency=gpu is invalid: must be one of cpu, onnx, operations: this machine has no GPU" in told
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else found(name, *rest))
    status, told, folder = search("error=proxy", "latency=onnx")
    assert (status, list(folder.rglob("*.json"))) == (1, [])
    assert "onnxruntime" in told
    assert "pip install" in told


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["search_space.depth=[]"], "search_space.depth=[] is invalid: must be a non-empty list"),
        (["search_space.heads=[3]"], "search_space.heads=[3] is invalid: must be a list with a divisor"),
        (["error=supernet", "error.steps=0"], "error.steps=0 is invalid: must be an integer >= 1"),
        (
            ["error=supernet", "error.samples=0", "error.sandwich=false"],
            "error.samples=0 is invalid: must be an integer >= 1 with error.sandwich=false",
        ),
        (["error=supernet", "search.thetas=[{learning_rate:0.1}]"], "one training serves all candidates"),
        (["error=distill", "error.steps=-1"], "error.steps=-1 is invalid: must be an integer >= 1"),
        (["error=distill", "loss=relations", "loss.relation_heads=16"], "loss.relation_heads=16 is invalid: must be a divisor"),
        (["error=distill", "error.measure=kl"], "error.measure=kl is invalid: must be another metric: this one needs"),
        (["error=proxy", "error.reference=nowhere.csv"], "error.reference=nowhere.csv is invalid"),
        (["error=proxy", "search.max_parameters=10"], "None of the 8 candidates keeps within the limits; the nearest, D1-"),
        (["error=proxy", "search.max_latency_ms=1"], "search.max_latency_ms needs a measured latency"),
        (["error=proxy", "strategy.stride=9"], "strategy.stride=9 is invalid: must be an integer in [1, 8]"),
        (["error=proxy", "search_space.maximum_point=1-2-8-16"], "search_space.maximum_point=D1-A2-H8-I16 is invalid"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(
    search: Any, tiny_teacher_directory: Path, tiny_text_directory: Path, overrides: list[str], sentence: str
) -> None:
    status, told, folder = search(f"teacher={tiny_teacher_directory}", f"corpus={tiny_text_directory}", *overrides)
    lines = [line for line in told.splitlines() if line.startswith("bort: ")]
    assert (status, list(folder.rglob("*.json"))) == (1, [])
    assert len(lines) == 1
    assert sentence in lines[0]


def test_a_full_disk_is_one_sentence_wherever_it_is_met(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(target: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("bort.search.table.write_text", full)
    status, told, folder = search("error=proxy")
    assert status == 1
    assert "candidates.csv: the disk is full" in told
    assert "not foreseen" not in told
    monkeypatch.undo()
    status, told, _ = search("error=proxy")
    assert status == 0, told
    assert (folder / "candidates.csv").exists()


def test_one_weight_sharing_student_from_the_command_to_the_tables(
    search: Any, tiny_teacher_directory: Path, tiny_text_directory: Path, tmp_path: Path
) -> None:
    reference = tmp_path / "reference.csv"
    rows = [f"{d},{a},{h},16,100,{1 / (d * h) + a / 1000}" for d in (1, 2) for a in (2, 4) for h in (8, 16)]
    reference.write_text("\n".join(["depth,heads,hidden,intermediate,steps,error", *rows]))
    status, told, folder = search(
        f"teacher={tiny_teacher_directory}", f"corpus={tiny_text_directory}", "corpus.block_length=32", "corpus.heldout=0.2",
        "targets.blocks=32", "targets.heldout_blocks=8", "loss=relations", "loss.relation_heads=2", "train.batch_size=4",
        "error=supernet", "error.steps=4", "error.measure=relation_kl", f"error.reference={reference}", "impl.threads=1",
        f"cache={tmp_path}/cache",
    )  # fmt: skip
    assert status == 0, told
    result = json.loads((folder / "result.json").read_text())
    assert (result["trained_steps"], result["shared_steps"]) == (0, 16)
    assert result["correlation"]["reference"]["n"] == 8
    assert -1 <= result["correlation"]["kendall_tau"] <= 1
    assert (folder / "supernet" / "supernet.safetensors").exists()
    assert (Path(result["winner"]["checkpoint"]) / "model.safetensors").exists()
    candidates = (folder / "candidates.csv").read_text().splitlines()
    assert len(candidates) == 1 + 8
    assert candidates[1].startswith(result["winner"]["name"])
    assert len((folder / "front.csv").read_text().splitlines()) == 1 + len(result["front"])
