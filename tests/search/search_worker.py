"""What a worker process of the tests does: search a table whose errors take a moment, die if told to, write the result."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# Imported before the workers are forked, which then share it.
import optuna.samplers  # noqa: F401
import scipy.optimize  # noqa: F401

from bort.architecture import Architecture
from bort.candidate import Evaluation
from bort.observer import Observer
from bort.search.storage.config import JournalStorageConfig, StorageConfig
from bort.search.worker import run_search
from tests.search.choices import STRATEGY_SETTINGS
from tests.search.synthetic_tables import TINY, table_problem


class SlowTable:
    """A table that takes its time, keeps count of what it was asked, and kills its process at one of the asks.

    Args:
        inner: The table.
        log: File to which each training is added when it begins and when it ends.
        kill_at: Number of the ask of this process at which it dies; never at 0.
        seconds: Time for one rung.
    """

    name = "table"

    def __init__(self, inner: Any, log: Path, kill_at: int, seconds: float) -> None:
        self._inner, self._log, self._kill_at, self._seconds, self._asks = inner, log, kill_at, seconds, 0
        self.fingerprint = inner.fingerprint

    @property
    def rungs(self) -> Sequence[int]:
        return self._inner.rungs

    def _note(self, text: str) -> None:
        with self._log.open("a") as file:
            file.write(f"{text} {os.getpid()}\n")

    def evaluate(self, architecture: Architecture, theta: Any, steps: int, directory: Path, observer: Observer) -> Evaluation:
        self._asks += 1
        self._note(f"begin {architecture} {steps}")
        time.sleep(self._seconds)
        if self._asks == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._note(f"end {architecture} {steps}")
        return self._inner.evaluate(architecture, theta, steps, directory, observer)


def search(folder: Path, strategy: str, kill_at: int, seconds: float, result: str, storage: StorageConfig | None = None) -> None:
    """Runs a search and writes its result; what goes wrong is written instead."""
    try:
        problem = table_problem(folder, TINY, "noisy", seed=3)
        problem = replace(problem, estimator=SlowTable(problem.estimator, folder / "log", kill_at, seconds))
        found = run_search(
            problem, STRATEGY_SETTINGS[strategy], seed=5, storage=storage or JournalStorageConfig(), directory=folder
        )
        (folder / result).write_text(json.dumps(found, sort_keys=True))
    except BaseException:
        (folder / result).write_text(traceback.format_exc())
        raise
