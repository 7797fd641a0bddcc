"""How much an engine gains from more workers, on candidates whose training is a wait: what is lost is the engine's own."""

from __future__ import annotations

import functools
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.benchmarks.config import ScalingConfig
from bort.candidate import Evaluation, Theta
from bort.errors import BortError
from bort.observer import Observer, Quiet
from bort.runtime_config import RayConfig
from bort.search.config import SearchConfig
from bort.search.engine import Engine, Job
from bort.search.problem import Problem
from bort.search.space import SearchSpace
from bort.search.storage.config import JournalStorageConfig
from bort.search.strategies.config import OseConfig
from bort.search.worker import run_search

#: Seconds for which a search may take longer than its waits alone.
_PATIENCE_SECONDS = 300.0


class SleepingEstimator:
    """Waits instead of training, and says when.

    Args:
        seconds: Time of a candidate.
    """

    name = "sleeping"
    rungs: Sequence[int] = (1,)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.fingerprint = f"{seconds!r}"

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        """Waits, and returns an error that falls with the size."""
        began = time.time()
        time.sleep(self._seconds)
        error = 1.0 + 1e6 / architecture.encoder_parameters()
        return Evaluation(steps, error, seconds=self._seconds, metrics={"began": began, "ended": time.time()})


def measure_scaling(config: ScalingConfig, *, observer: Observer | None = None) -> dict[str, Any]:
    """Searches with every engine and number of workers, in turns.

    A search begins when all its processes are ready. Its time runs from the moment at which its first candidate began to that at
    which its last one ended. Efficiency is the time that candidates waited, as asked for, divided by that time and by the workers.

    Returns:
        ``rows`` with ``engine``, ``workers``, ``seconds`` (of each round), ``speedup`` (over one worker, taken from the
        first number of workers) and ``efficiency``; the last two are of the median round.
    """
    told = observer or Quiet()
    taken: dict[tuple[str, int], list[float]] = {}
    turns = [(engine, workers) for _ in range(config.rounds) for engine in config.engines for workers in config.workers]
    for number, (engine, workers) in enumerate(turns):
        taken.setdefault((engine, workers), []).append(_search(engine, workers, config))
        told.progress("searches", number + 1, len(turns))
    waits = config.candidates * config.seconds
    middle = {key: sorted(seconds)[len(seconds) // 2] for key, seconds in taken.items()}
    return {
        "candidate_seconds": config.seconds,
        "candidates": config.candidates,
        "rows": [
            {
                "engine": engine,
                "workers": workers,
                "seconds": seconds,
                "speedup": middle[engine, config.workers[0]] / middle[engine, workers] * config.workers[0],
                "efficiency": waits / (workers * middle[engine, workers]),
            }
            for (engine, workers), seconds in taken.items()
        ],
    }


def _search(engine: str, workers: int, config: ScalingConfig) -> float:
    """Returns the seconds between the first beginning and the last end of a candidate."""
    with tempfile.TemporaryDirectory(prefix="bort-scaling-") as folder:
        return _elapsed(_on_ray(workers, config, folder) if engine == "ray" else _on_processes(workers, config, folder))


def _on_processes(workers: int, config: ScalingConfig, folder: str) -> dict[str, Any]:
    spawned = multiprocessing.get_context("spawn")
    ready = spawned.Barrier(workers)
    processes = [spawned.Process(target=_worker, args=(ready, config, folder), daemon=True) for _ in range(workers - 1)]
    for process in processes:
        process.start()
    result = _worker(ready, config, folder)
    for process in processes:
        process.join(_PATIENCE_SECONDS)
        if process.exitcode:
            raise BortError(f"A worker of the comparison ended with status {process.exitcode}.")
    return result


def _worker(ready: Barrier, config: ScalingConfig, folder: str) -> dict[str, Any]:
    # Loaded by each process before the first of them begins.
    import optuna.samplers  # noqa: F401

    ready.wait(_PATIENCE_SECONDS)
    return _run(config, folder)


def _on_ray(workers: int, config: ScalingConfig, folder: str) -> dict[str, Any]:
    from bort.search.ray_engine import RayEngine, connect

    estimator = SleepingEstimator(config.seconds)
    ray = connect("local", processors=workers)
    try:
        build = functools.partial(SleepingEstimator, config.seconds)
        engine = RayEngine(build, estimator.fingerprint, RayConfig(address="local"), slots=workers)
        # The cluster starts its processes with the first jobs that it is given.
        for number in range(workers):
            engine.submit(Job(number, Architecture(1, 1, 1, 1), {}, 1, Path(folder) / "first" / str(number)))
        waiting = workers
        while waiting:
            waiting -= len(engine.collect(_PATIENCE_SECONDS))
        result = _run(config, folder, engine)
        engine.close()
        return result
    finally:
        ray.shutdown()


def _run(config: ScalingConfig, folder: str, engine: Engine | None = None) -> dict[str, Any]:
    space = SearchSpace(list(range(1, config.candidates + 1)), [2], [64], [128])
    problem = Problem(
        space=space,
        maximum_point=Architecture(config.candidates + 1, 2, 64, 128),
        parameters=Architecture.parameters,
        latency=Architecture.operations,
        estimator=SleepingEstimator(config.seconds),
        search=SearchConfig(),
    )
    return run_search(problem, OseConfig(), storage=JournalStorageConfig(), directory=Path(folder), engine=engine)


def _elapsed(result: dict[str, Any]) -> float:
    stamps = [candidate["metrics"] for candidate in result["candidates"]]
    return float(max(stamp["ended"] for stamp in stamps) - min(stamp["began"] for stamp in stamps))
