"""Workers that are killed, and many of them on one study."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from bort.search.space import SearchSpace
from bort.search.storage.config import JournalStorageConfig, StorageConfig
from tests.search.choices import STORAGE_SETTINGS, STRATEGY_SETTINGS
from tests.search.search_worker import search
from tests.search.synthetic_tables import TINY


def worker(
    folder: Path,
    strategy: str,
    kill_at: int = 0,
    seconds: float = 0.0,
    result: str = "result.json",
    storage: StorageConfig | None = None,
) -> BaseProcess:
    """Starts a worker process; a fork, so that nothing has to be imported again."""
    folder.mkdir(exist_ok=True)
    process = multiprocessing.get_context("fork").Process(
        target=search, args=(folder, strategy, kill_at, seconds, result, storage), daemon=True
    )
    process.start()
    return process


def finished(process: BaseProcess) -> int:
    """Waits for a worker's end and returns its exit code: 0, or minus the signal that killed it."""
    process.join(timeout=100)
    assert process.exitcode in (0, -signal.SIGKILL), f"exit code {process.exitcode}"
    return process.exitcode


def trained(folder: Path) -> tuple[Counter[tuple[str, ...]], Counter[tuple[str, ...]]]:
    """Returns how often the training of each rung began, and how often it ended."""
    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    began, ended = (Counter(tuple(line[1:3]) for line in lines if line[0] == what) for what in ("begin", "end"))
    return began, ended


def trials(folder: Path) -> list[Any]:
    import optuna

    coordination = JournalStorageConfig().open(folder)
    with coordination.exclusive():
        study = optuna.load_study(study_name="search", storage=coordination.storage)
        found = [(t.number, t.state.name, t.params, t.values, t.user_attrs, t.system_attrs) for t in study.get_trials()]
    coordination.close()
    return found


@pytest.mark.parametrize("strategy", STRATEGY_SETTINGS)
def test_killed_and_resumed_is_bit_identical(tmp_path: Path, strategy: str) -> None:
    assert finished(worker(tmp_path / "whole", strategy)) == 0
    killed = tmp_path / "killed"
    for kill_at in (1, 4, 3):
        assert finished(worker(killed, strategy, kill_at)) == -signal.SIGKILL
        # What a kill in the middle of writing leaves behind.
        with (killed / "study.journal").open("ab") as file:
            file.write(b'{"op_code": 8, "trial_id": 0, "user_')
    assert finished(worker(killed, strategy)) == 0
    assert (killed / "result.json").read_text() == (tmp_path / "whole" / "result.json").read_text()
    assert trials(killed) == trials(tmp_path / "whole")
    began = Counter(
        line.split()[1:3][0] + " " + line.split()[2] for line in (killed / "log").read_text().splitlines() if "begin" in line
    )
    ended = Counter(line.split()[1] + " " + line.split()[2] for line in (killed / "log").read_text().splitlines() if "end" in line)
    assert set(ended.values()) == {1}, "a finished rung was trained again"
    assert sum(began.values()) - sum(ended.values()) == 3, "only the rung at which each worker died was lost"


@pytest.fixture(params=STORAGE_SETTINGS)
def storage(request: pytest.FixtureRequest) -> StorageConfig:
    return STORAGE_SETTINGS[request.param](request, f"{request.node.name} {time.time()}")


@pytest.mark.parametrize("strategy", ["ose", "bound"])
def test_eight_processes_share_a_study(tmp_path: Path, strategy: str, storage: StorageConfig) -> None:
    folder = tmp_path / "shared"
    processes = [worker(folder, strategy, 2 if index < 2 else 0, 0.05, f"result-{index}.json", storage) for index in range(8)]
    codes = [finished(process) for process in processes]
    assert codes.count(0) >= 6
    results = [json.loads((folder / f"result-{index}.json").read_text()) for index, code in enumerate(codes) if code == 0]
    assert all(result == results[0] for result in results), "every worker reports the same study"
    began, ended = trained(folder)
    assert set(ended.values()) == {1}, "a candidate was trained twice"
    assert sum(began.values()) - sum(ended.values()) == codes.count(-signal.SIGKILL)
    whole = results[0]
    assert whole["trained_steps"] <= whole["certificate"]["exhaustive_steps"]
    if strategy == "ose":
        assert whole["trained_steps"] == len(range(0, len(SearchSpace(**TINY)), 3)) * 40
        assert finished(worker(tmp_path / "alone", strategy)) == 0
        assert json.loads((tmp_path / "alone" / "result.json").read_text())["winner"]["name"] == whole["winner"]["name"]
    else:
        assert whole["trained_steps"] <= whole["certificate"]["budget_steps"]


def test_a_living_worker_takes_over_what_a_killed_one_left(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    doomed = worker(folder, "ose", 2, 0.3, "doomed.json")
    while not (folder / "log").exists():
        time.sleep(0.02)
    survivor = worker(folder, "ose", 0, 0.02)
    assert finished(doomed) == -signal.SIGKILL
    assert finished(survivor) == 0
    left = [candidate["state"] for candidate in json.loads((folder / "result.json").read_text())["candidates"]]
    assert set(left) == {"complete"}
    assert not list(folder.glob("study.journal.claims/**/*")), "claims are given back"
