"""One command that keeps several workers at a study."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path

from bort.files import read_json
from pipelines.sentences import CONF

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
