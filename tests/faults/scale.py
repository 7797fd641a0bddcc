"""Many workers on one study, and a study of many candidates: nothing twice, nothing locked, the budget exact, and what it costs."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.candidate import Evaluation, Theta
from bort.observer import Observer
from bort.search.space import SearchSpace
from bort.search.storage.config import StorageConfig
from bort.search.storage.status import study_status
from bort.search.strategies.config import OseConfig
from bort.search.worker import run_search
from tests.faults import training
from tests.faults.kills import fork

#: 1,600 shapes: 200 for each of eight workers.
FULL = {
    "depth": list(range(1, 11)),
    "heads": [2],
    "hidden": list(range(16, 176, 8)),
    "intermediate": list(range(16, 144, 16)),
}
SMALL = {**FULL, "depth": [1, 2, 3, 4], "hidden": [16, 32, 48, 64, 80]}
STEPS = 40


class Formula:
    """Errors by a formula, as fast as a table's, but from workers that let go of the study between any two of them."""

    name = "formula"
    rungs = (STEPS,)
    fingerprint = "formula 1"

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        return Evaluation(steps, (1e5 / architecture.encoder_parameters()) ** 0.3)


def many_workers(folder: Path, storage: StorageConfig, workers: int, space: dict[str, list[int]]) -> dict[str, Any]:
    """Lets so many workers search a space to its end, and returns what they say of it.

    Every worker's result has to be the same, each candidate in it once, and the steps those of the budget.
    """
    problem = training.problem(space=space, estimator=Formula())
    for name in ("results", "errors"):
        (folder / name).mkdir(parents=True)

    def work() -> None:
        result = run_search(problem, OseConfig(), storage=storage, directory=folder / "search")
        (folder / "results" / f"{os.getpid()}.json").write_text(json.dumps(result))

    began = time.monotonic(), os.times()
    for child in [fork(folder, work) for _ in range(workers)]:
        os.waitpid(child, 0)
    spent = os.times()
    results = [json.loads(path.read_text()) for path in (folder / "results").iterdir()]
    found = Counter(candidate["fingerprint"] for candidate in results[0]["candidates"]) if results else Counter()
    size = len(SearchSpace(**space))
    plain = {json.dumps({**training.comparable(result), "history": 0}, sort_keys=True) for result in results}
    return {
        "workers": workers,
        "candidates": size,
        "lost": size - len(found),
        "twice": sum(found.values()) - len(found),
        "steps over budget": sum(result["trained_steps"] - size * STEPS for result in results),
        "workers that failed": workers - len(results),
        "errors": sorted({path.read_text().splitlines()[-1] for path in (folder / "errors").iterdir()}),
        "different results": len(plain) - 1,
        "seconds": time.monotonic() - began[0],
        "processor seconds": spent.children_user + spent.children_system - began[1].children_user - began[1].children_system,
    }


def large_study(folder: Path, storage: StorageConfig, candidates: int = 10_000) -> dict[str, Any]:
    """Searches a space of so many candidates, and measures what it takes to open the study again."""
    space = {**FULL, "depth": list(range(1, candidates // 400 + 1)), "intermediate": list(range(16, 336, 16))}
    kept = training.problem(space=space, estimator=Formula())
    kept.estimator.immediate = True
    began = time.monotonic(), time.process_time()
    result = run_search(kept, OseConfig(), storage=storage, directory=folder)
    took = time.monotonic() - began[0], time.process_time() - began[1]
    again = time.process_time()
    assert run_search(kept, OseConfig(), storage=storage, directory=folder)["winner"] == result["winner"]
    asked = time.process_time()
    status = study_status(storage, folder)
    told = time.process_time()
    return {
        "candidates": status.candidates["complete"],
        "seconds": took[0],
        "processor seconds": took[1],
        "processor seconds to start again": asked - again,
        "processor seconds of status": told - asked,
    }
