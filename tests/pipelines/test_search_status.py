"""`bort search status` as a command: what it prints, and what it does without."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from bort.search.storage.base import CANDIDATE, IDENTITY
from bort.search.storage.config import JournalStorageConfig, SqliteStorageConfig, StorageConfig

#: What a search needs, and takes longer to import than the study takes to read.
HEAVY = {"datasets", "lightning", "matplotlib", "mlflow", "pandas", "scipy", "torch", "transformers"}

COMMAND = f"""
import runpy, sys
sys.argv = ["bort", *sys.argv[1:]]
runpy.run_module("pipelines", run_name="__main__")
print(sorted({HEAVY} & set(sys.modules)))
"""


@pytest.mark.parametrize("storage", [JournalStorageConfig(), SqliteStorageConfig()], ids=["journal", "sqlite"])
def test_a_study_is_shown_without_importing_what_a_search_needs(storage: StorageConfig, tmp_path: Path) -> None:
    with closing(storage.open(tmp_path)) as coordination, coordination.exclusive():
        study = optuna.create_study(storage=coordination.storage, study_name=storage.study, direction="maximize")
        study.set_user_attr(IDENTITY, {"strategy.name": "bound"})
        study.add_trial(optuna.trial.create_trial(value=2.5, user_attrs={CANDIDATE: "c"}))
    path = next(tmp_path.glob("study.*l" if storage.name == "journal" else "study.db"))
    overrides = [f"storage={storage.name}", f"storage.path={path}"]
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, "search", "status", *overrides],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"
    rows = {
        cell.strip(): value.strip() for _, cell, value, _ in (line.split("│") for line in ended.stderr.splitlines() if "│" in line)
    }
    assert (rows["candidates complete"], rows["candidates failed"], rows["best so far"]) == ("1", "0", "w 2.5")
    assert "strategy=bound" in ended.stderr


def test_a_study_that_is_not_there_is_told_in_a_sentence_also_by_the_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.search", "status", f"storage.path={tmp_path}/none"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"bort: There is no study in {tmp_path}/none: nothing was searched there yet.\n"
    assert list(tmp_path.iterdir()) == []
