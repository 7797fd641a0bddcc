"""One command that keeps several workers at a study."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig

from bort.files import read_json
from bort.runtime_config import ImplConfig, RayConfig
from pipelines.app.environment import CONF
from pipelines.engine import workers
from pipelines.engine.workers import for_candidate, gpu_of, visible_gpus

SPACE = {"depth": (1, 2, 3, 4), "heads": (2,), "hidden": (64, 128), "intermediate": (128, 256)}


def search(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    lists = [f"search_space.{name}=[{','.join(map(str, values))}]" for name, values in SPACE.items()]
    command = [sys.executable, "-m", "pipelines", "search", "error=table", "error.path=table.csv", *lists, *overrides]
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def write_table(folder: Path) -> None:
    rows = ["depth,heads,hidden,intermediate,steps,error"]
    for shape in product(*SPACE.values()):
        rows += [f"{','.join(map(str, shape))},{steps},{2 + 100 / (steps * sum(shape)):.6f}" for steps in (1, 2, 4)]
    (folder / "table.csv").write_text("\n".join(rows) + "\n")


def test_a_candidate_takes_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    impl = ImplConfig(workers=5, devices=4, nodes=2, strategy="ddp", threads=3)
    alone = for_candidate(impl)
    assert (alone.devices, alone.nodes, alone.strategy, alone.threads) == (1, 1, "auto", 3)
    on_ray = for_candidate(replace(impl, engine="ray", threads=None, ray=RayConfig(processors=4.5)))
    assert (on_ray.devices, on_ray.threads) == (1, 4)
    # Workers take the GPUs in turn, the process that starts them among them.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7,GPU-1f2e")
    gpus = visible_gpus()
    assert gpus == ["4", "7", "GPU-1f2e"]
    placed = [gpu_of(worker, impl, gpus)["CUDA_VISIBLE_DEVICES"] for worker in range(5)]
    assert placed == ["4", "7", "GPU-1f2e", "4", "7"]
    assert gpu_of(0, replace(impl, workers=1), gpus) == {}, "who is alone keeps what it has"
    assert gpu_of(0, replace(impl, device="cpu"), gpus) == {}
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert visible_gpus() == []
    assert gpu_of(1, impl, []) == {}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]


def test_workers_are_started_with_their_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[str | None] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
            started.append(env.get("CUDA_VISIBLE_DEVICES"))

        def wait(self, _seconds: float | None = None) -> int:
            return 0

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(workers.subprocess, "Popen", Process)
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(overrides=SimpleNamespace(task=[])))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    run = SimpleNamespace(config=SimpleNamespace(impl=ImplConfig(workers=4), root="r"), directory=tmp_path)
    with workers.beside(run, "search"):  # type: ignore[arg-type]
        # This process itself stays at the first, and may later train on all of them.
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert started == ["3", "2", "3"]


def test_several_workers_give_the_result_of_one(tmp_path: Path) -> None:
    write_table(tmp_path)
    one = search(tmp_path, "tracking=off", "root=one", "hydra.run.dir=one")
    three = search(tmp_path, "tracking=off", "root=three", "hydra.run.dir=three", "impl.workers=3")
    assert one.returncode == three.returncode == 0, one.stderr + three.stderr
    alone, together = read_json(tmp_path / "one" / "result.json"), read_json(tmp_path / "three" / "result.json")
    assert together["winner"]["name"] == alone["winner"]["name"]
    assert together["trained_steps"] == alone["trained_steps"] == 16 * 4
    assert Counter(item["name"] for item in together["candidates"]).most_common(1)[0][1] == 1
    assert [(tmp_path / "three" / f"worker-{number}.log").exists() for number in (1, 2, 3)] == [True, True, False]
