"""Where the candidates of a search are trained: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.search.config import MemoryStorageConfig
from bort.settings import check_settings
from bort.tracking.config import TrackingConfig
from bort.tracking.tracker import Recording, Tracker

from .. import estimators
from ..app.console import ConsoleObserver
from .schema import Config
from .stage import Run

if TYPE_CHECKING:
    from bort.architecture import Architecture
    from bort.candidate import Estimator
    from bort.search.engine import Engine
    from bort.search.problem import Problem


def check(config: Config) -> None:
    """Refuses settings of an engine that cannot be used, and a cluster that cannot be reached."""
    check_settings(config.impl, "impl")
    if config.impl.engine == "ray" and config.impl.ray.address != "local" and estimators.trains(config.error):
        from bort.search.ray_engine import connect

        connect(config.impl.ray.address)


@contextmanager
def placed(run: Run, problem: Problem) -> Iterator[Engine | None]:
    """Yields the engine that trains the candidates of a search; none where this process does it itself."""
    impl, estimator = run.config.impl, problem.estimator
    if impl.engine == "local" or not estimators.trains(run.config.error):
        yield None
        return
    from bort.search.ray_engine import RayEngine

    build = functools.partial(opened, _without_secrets(run.config), run.directory, dict(run.inputs), list(problem.space))
    engine = RayEngine(build, estimator.fingerprint, slots=impl.workers, observer=run.observer, **asdict(impl.ray))
    try:
        yield engine
    finally:
        engine.close()


def opened(config: Config, directory: Path, inputs: Mapping[str, dict[str, Any]], shapes: list[Architecture]) -> Estimator:
    """Opens a search's estimator in a process of its own, from what the process that searches made and recorded."""
    tracker = Tracker(config.tracking, directory / "tracking")
    tracked, observer = tracker.run("candidates", key="candidates"), ConsoleObserver("search")
    run = Run(config, directory, Recording(tracked, observer), observer, inputs, tracked, tracker, "")
    estimator: Estimator = estimators.estimator(run, shapes)
    return estimator


def _without_secrets(config: Config) -> Config:
    """What trains candidates needs neither the study's storage nor the tracking server, so it is not told how to reach them."""
    return replace(config, storage=MemoryStorageConfig(), tracking=TrackingConfig(enabled=False))
