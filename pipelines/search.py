"""`bort search`: which architecture has the largest W-coefficient.

To be read from top to bottom: the work, then the parts of the problem in the order in which they are built, the engine that trains
the candidates, what is checked before anything runs, and the stage.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.architecture import POSITIONS, Architecture
from bort.distillation.estimator_config import TrainedErrorConfig
from bort.errors import ConfigurationError
from bort.quantities import ErrorConfig, ErrorInputs, Latency, LatencyInputs, OperationsLatencyConfig
from bort.search.estimator_config import ProxyErrorConfig, TableErrorConfig
from bort.search.storage.config import MemoryStorageConfig
from bort.settings import check_settings
from bort.tracking.config import TrackingConfig
from bort.tracking.tracker import Recording, Tracker

from . import artifacts, candidates, tables
from .app.console import ConsoleObserver
from .app.main import entry
from .engine.inputs import open_setup
from .engine.schema import Config
from .engine.stage import Run, Stage
from .engine.workers import beside, for_candidate

if TYPE_CHECKING:
    from bort.candidate import Estimator
    from bort.search.engine import Engine
    from bort.search.problem import Problem
    from bort.search.space import SearchSpace
    from bort.teacher.shape import TeacherShape


def work(run: Run) -> dict[str, Any]:
    """Run the strategy on the space until it stops."""
    from bort.search.worker import run_search

    config = run.config
    # Latencies are measured before other workers use the machine.
    shapes = shapes_of(config, run)
    with ExitStack() as stack:
        if config.impl.engine == "local":
            stack.enter_context(beside(run, "search"))
        estimator = config.error.build(_inputs(run, list(shapes.space)))
        problem = problem_of(config, shapes, estimator, run.inputs)
        result: dict[str, Any] = run_search(
            problem,
            config.strategy,
            seed=config.seed,
            storage=config.storage,
            directory=run.directory,
            engine=stack.enter_context(_engine(run, problem)),
            # A candidate's metrics belong to its own tracked run.
            observer=run.console,
            on_candidate=candidates.tracking(run),
        )
    artifacts.record(run, result)
    candidates.record_search(run.tracked, result)
    return result


@dataclass(frozen=True)
class Shapes:
    """What a search has before any error.

    Args:
        counts: The counts that fix p.
        latency: The latencies of the space and of T.
        space: The search space Ξ, ordered by p and i.
        maximum_point: T.
    """

    counts: TeacherShape
    latency: Latency
    space: SearchSpace
    maximum_point: Architecture


def shapes_of(config: Config, run: Run | None = None) -> Shapes:
    """Build the space, T, and their latencies.

    Args:
        config: The configuration.
        run: The run that a measured latency is recorded in; without it, operations stand in for a measurement.
    """
    from bort.search.space import SearchSpace, maximum_point

    counts, setting = _counts(config), config.search_space.maximum_point
    counted = OperationsLatencyConfig(sequence_length=config.latency.sequence_length).build(LatencyInputs())
    space = SearchSpace.from_config(config.search_space, parameters=counts.parameters, latency=counted.of)
    point = maximum_point(setting, space, counts.architecture)
    if isinstance(config.latency, OperationsLatencyConfig) or (config.latency.measures and run is None):
        return Shapes(counts, counted, space, point)
    rows = {"vocab_size": counts.vocab_size, "positions": counts.positions, "token_types": max(1, counts.token_types)}
    every = list(dict.fromkeys([*space, point]))
    inputs = LatencyInputs(every, counts=rows)
    if run is not None:
        inputs = replace(inputs, directory=run.directory, observer=run.observer)
    latency = config.latency.build(inputs)
    if run is not None and "file" in latency.circumstances:
        run.tracked.artifact(run.directory / latency.circumstances["file"])
    space = space.ordered_by(counts.parameters, latency.of)
    return Shapes(counts, latency, space, maximum_point(setting, space, counts.architecture))


def _counts(config: Config) -> TeacherShape:
    """Return the counts that fix p, i and T: the teacher's, or the paper's if errors come without a teacher."""
    from bort.teacher.shape import TeacherShape, teacher_shape

    if config.error.trains:
        return teacher_shape(config.teacher)
    rows = config.error.embedding_rows if isinstance(config.error, TableErrorConfig) else None
    if rows is None:
        return TeacherShape()
    if rows <= POSITIONS:
        raise ConfigurationError("error.embedding_rows", rows, f"> {POSITIONS}, the rows of the positions")
    return TeacherShape(vocab_size=rows - POSITIONS)


def _inputs(run: Run, shapes: list[Architecture]) -> ErrorInputs:
    """Return what the estimator is built from."""
    return ErrorInputs(shapes, run.directory, functools.partial(open_setup, run), for_candidate(run.config.impl))


def problem_of(
    config: Config, shapes: Shapes, estimator: Estimator, inputs: Mapping[str, Mapping[str, Any]] | None = None
) -> Problem:
    """Build the search problem.

    Args:
        config: The configuration.
        shapes: The space, T, and their latencies.
        estimator: The estimator.
        inputs: The results of the stages that the errors depend on.
    """
    from bort.search.problem import Problem

    return Problem(
        space=shapes.space,
        maximum_point=shapes.maximum_point,
        parameters=shapes.counts.parameters,
        latency=shapes.latency.of,
        estimator=estimator,
        search=config.search,
        latency_name=config.latency.name,
        fingerprint={name: result["digest"] for name, result in (inputs or {}).items()},
        circumstances=shapes.latency.circumstances,
        percentiles=shapes.latency.percentiles,
        reference=_reference(config.error),
    )


def _reference(error: ErrorConfig) -> Mapping[Architecture, float]:
    """Return the errors of full trainings to compare the errors with: of each architecture, the one at its last step."""
    from bort.search.table import read_table

    path = getattr(error, "reference", None)
    if not path:
        return {}
    try:
        return read_table(path).last_of_seed(None)
    except ConfigurationError as refused:
        raise ConfigurationError("error.reference", path, refused.condition) from refused


@contextmanager
def _engine(run: Run, problem: Problem) -> Iterator[Engine | None]:
    """Yield the engine that trains the candidates; ``None`` if this process trains them."""
    impl = run.config.impl
    if impl.engine == "local" or not run.config.error.trains:
        yield None
        return
    from bort.search.ray_engine import RayEngine

    build = functools.partial(open_estimator, for_nodes(run.config), run.directory, dict(run.inputs), list(problem.space))
    engine = RayEngine(build, problem.estimator.fingerprint, impl.ray, slots=impl.workers, observer=run.observer)
    try:
        yield engine
    finally:
        engine.close()


def for_nodes(config: Config) -> Config:
    """Return a configuration for training candidates: without the study's storage and the tracking server, and their secrets."""
    return replace(config, storage=MemoryStorageConfig(), tracking=TrackingConfig(enabled=False))


def open_estimator(config: Config, directory: Path, inputs: Mapping[str, dict[str, Any]], shapes: list[Architecture]) -> Estimator:
    """Open a search's estimator in another process, from what the searching process made and recorded."""
    tracker = Tracker(config.tracking, directory / "tracking")
    tracked, observer = tracker.run("candidates", key="candidates"), ConsoleObserver("search")
    run = Run(config, directory, Recording(tracked, observer), observer, inputs, tracked, tracker, "")
    return config.error.build(_inputs(run, shapes))


def check(config: Config) -> None:
    """Refuse a search that cannot be run, before anything else runs: p and i are exact, so no training is needed to see it."""
    _check_error(config)
    shapes = shapes_of(config)
    # An estimator that trains cannot be built yet; what is checked here does not depend on its errors.
    error = ProxyErrorConfig() if config.error.trains else config.error
    estimator = error.build(ErrorInputs(list(shapes.space)))
    check_settings(config.latency, "latency")
    config.latency.check_machine(shapes.counts.positions)
    if config.latency.measures:
        # A limit in milliseconds has to wait for the measurement.
        search = replace(config.search, max_latency_ms=None)
        config = replace(config, search=search, latency=OperationsLatencyConfig(sequence_length=config.latency.sequence_length))
    problem = problem_of(config, shapes, estimator)
    problem.check()
    check_settings(config.strategy, "strategy")
    config.strategy.build(problem, config.seed)
    config.storage.check_usable()
    check_settings(config.impl, "impl")
    if config.impl.engine == "ray" and config.impl.ray.address != "local" and config.error.trains:
        from bort.search.ray_engine import connect

        connect(config.impl.ray.address)


def _check_error(config: Config) -> None:
    from bort.teacher.shape import teacher_shape

    error = config.error
    check_settings(error, "error")
    if isinstance(error, TrainedErrorConfig):
        targets = config.targets.for_loss(config.loss.targets, config.loss.temperature) if config.loss.targets else None
        teacher = teacher_shape(config.teacher).architecture
        error.check_training(config.loss, targets.kind if targets else None, config.search_space.hidden, teacher)
    if error.only_default_theta and any(config.search.thetas):
        raise ConfigurationError(
            "search.thetas", config.search.thetas, f"[{{}}] with error={error.name}, as {error.only_default_theta}"
        )
    _reference(error)


def sources(config: Config) -> Mapping[str, str]:
    """Return the digests of the tables that a search reads."""
    from bort.files import file_digest
    from bort.search.table import table_path

    reference = getattr(config.error, "reference", None)
    return {**config.error.sources(), **({"reference": file_digest(table_path(reference))} if reference else {})}


def needs(config: Config) -> tuple[str, ...]:
    """Return the stages that a search needs: none for errors without training, no teacher for a loss without targets."""
    if not config.error.trains:
        return ()
    return ("corpus", "teacher") if config.loss.targets else ("corpus",)


def settings(config: Config) -> tuple[str, ...]:
    """Return the keys that change the result of a search."""
    keys = ("search_space", "strategy", "error", "latency", "search", "seed")
    return (
        (*keys, "loss", "train", "student.initialisation", "student.dropout", "student.initializer_range", "masking")
        if needs(config)
        else keys
    )


STAGE = Stage(
    name="search",
    work=work,
    settings=settings,
    needs=needs,
    sources=sources,
    show=tables.search,
    headline=lambda result: f"{result['winner']['name']} wins with W = {result['winner']['w']:.3f}",
    check=check,
    shared=True,
)


def main() -> None:
    """Search, or show the progress of the search: ``bort search status``."""
    if sys.argv[1:2] == ["status"]:
        from . import search_status

        search_status.main(sys.argv[2:])
    else:
        entry("search")()


if __name__ == "__main__":
    main()
