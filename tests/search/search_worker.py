"""One worker process of the tests: searches a table whose errors take a moment, may kill itself, and writes its result."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthetic_tables import TINY, table_problem

from bort.architecture import Architecture
from bort.candidate import Evaluation
from bort.events import Observer
from bort.search.config import (
    BoundConfig,
    JournalStorageConfig,
    Nsga2Config,
    OseConfig,
    PostgresStorageConfig,
    RandomConfig,
    TpeConfig,
)
from bort.search.run import run_search

STRATEGIES: dict[str, Any] = {
    "ose": OseConfig(stride=2),
    "random": RandomConfig(trials=8),
    "tpe": TpeConfig(trials=8, startup=3),
    "nsga2": Nsga2Config(trials=8, population=4),
    "bound": BoundConfig(budget=0.4),
}


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


def main() -> None:
    """Runs the search that the arguments ask for."""
    folder, strategy, kill_at, seconds, result = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
    url = sys.argv[6] if len(sys.argv) > 6 else ""
    problem = table_problem(folder, TINY, "noisy", seed=3)
    problem = replace(problem, estimator=SlowTable(problem.estimator, folder / "log", kill_at, seconds))
    storage = PostgresStorageConfig(url=url) if url else JournalStorageConfig()
    found = run_search(problem, STRATEGIES[strategy], seed=5, storage=storage, directory=folder)
    (folder / result).write_text(json.dumps(found, sort_keys=True))


if __name__ == "__main__":
    main()
