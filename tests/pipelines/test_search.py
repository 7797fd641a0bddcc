"""`bort search` on its own: latencies that are measured, and what cannot be searched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import latencies
from pipelines.app import entry

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
        assert candidate["percentiles"] == {name: record["rows"][candidate["name"]][name] for name in latencies.PERCENTILES}
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
    assert "latency=gpu cannot be used: this machine has no GPU" in told
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else found(name, *rest))
    status, told, folder = search("error=proxy", "latency=onnx")
    assert (status, list(folder.rglob("*.json"))) == (1, [])
    assert "onnxruntime" in told
    assert "pip install" in told
