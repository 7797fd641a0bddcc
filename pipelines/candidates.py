"""How a search is put together from the configuration, and how its candidates are recorded and shown."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bort.architecture import POSITIONS, Architecture
from bort.errors import ConfigurationError
from bort.search.estimator_config import MeasuredLatencyConfig, OperationsLatencyConfig, ProxyErrorConfig, TableErrorConfig

from . import estimators, latencies
from .engine.schema import Config
from .engine.stage import Run

if TYPE_CHECKING:
    from bort.search.candidates import CandidateRecord
    from bort.tracking.tracker import TrackedRun

#: Candidates with a run of their own where errors cost no training.
_MOST_UNTRAINED = 300
#: What a candidate's tracked run says of it.
_FIGURES = ("parameters", "operations", "latency", "error", "w", "steps", "tokens", "processor_seconds")


def counts(config: Config) -> Any:
    """Returns the counts that fix p, i and T: the teacher's, or the paper's where errors come without a teacher."""
    from bort.teacher.shape import TeacherShape, teacher_shape

    if estimators.trains(config.error):
        return teacher_shape(config.teacher)
    rows = config.error.embedding_rows if isinstance(config.error, TableErrorConfig) else None
    if rows is None:
        return TeacherShape()
    if rows <= POSITIONS:
        raise ConfigurationError("error.embedding_rows", rows, f"more than {POSITIONS} rows, those of the positions, are needed")
    return TeacherShape(vocab_size=rows - POSITIONS)


def latency(run: Run) -> latencies.Latency:
    """Returns the latencies of the space; measures them first, where they are to be measured."""
    config = run.config
    counted = latencies.counted(config)
    if not isinstance(config.latency, MeasuredLatencyConfig):
        return counted
    space = _space(config, counted)
    return latencies.measured(run, list(dict.fromkeys([*space, _maximum_point(config, space)])), counts(config))


def problem(run: Run, latency: latencies.Latency) -> Any:
    """Returns the search that the configuration asks for."""
    estimator = estimators.estimator(run, _space(run.config, latency))
    return _problem(run.config, estimator, run.inputs, latency)


def error_table(config: Config) -> TableErrorConfig:
    """Returns where the table of errors is that is to be replayed.

    Raises:
        ConfigurationError: The errors come from elsewhere.
    """
    if not isinstance(config.error, TableErrorConfig):
        raise ConfigurationError("error", config.error.name, "replays need error=bortbench, or error=table with error.path=FILE")
    return config.error


def table_problem(config: Config) -> Any:
    """Returns the search that the configuration asks for, with errors from a table or a formula."""
    latency = latencies.counted(config)
    return _problem(config, estimators.untrained(config, _space(config, latency)), {}, latency)


def check(config: Config) -> None:
    """Refuses a search that cannot be run. Training is not needed to know: p and i are exact."""
    from bort.search.strategies.registry import make_strategy

    estimators.check(config)
    # An estimator that trains cannot be had yet; what is checked does not depend on the errors.
    estimator = estimators.untrained(config, _space(config, latencies.counted(config)))
    latencies.check(config, counts(config))
    if isinstance(config.latency, MeasuredLatencyConfig):
        # What is not measured yet is counted, and a limit in milliseconds has to wait.
        config = replace(config, latency=OperationsLatencyConfig(sequence_length=config.latency.sequence_length))
        config.search = replace(config.search, max_latency_ms=None)
    problem = _problem(config, estimator, {}, latencies.counted(config))
    problem.check()
    make_strategy(config.strategy, problem, config.seed)


def _space(config: Config, latency: latencies.Latency) -> Any:
    from bort.search.space import SearchSpace

    return SearchSpace.from_config(config.search_space, parameters=counts(config).parameters, latency=latency.of)


def _maximum_point(config: Config, space: Any) -> Architecture:
    from bort.search.space import maximum_point

    point: Architecture = maximum_point(config.search_space.maximum_point, space, counts(config).architecture)
    return point


def _problem(config: Config, estimator: Any, inputs: Mapping[str, Mapping[str, Any]], latency: latencies.Latency) -> Any:
    from bort.search.problem import Problem

    space = _space(config, latency)
    return Problem(
        space=space,
        maximum_point=_maximum_point(config, space),
        parameters=counts(config).parameters,
        latency=latency.of,
        estimator=estimator,
        search=config.search,
        latency_name=config.latency.name,
        fingerprint={name: result["digest"] for name, result in inputs.items()},
        circumstances=latency.circumstances,
        percentiles=latency.percentiles,
        reference=estimators.reference(config.error),
    )


def tracking(run: Run) -> Callable[[CandidateRecord], None]:
    """Returns what records each candidate as a child run of the search.

    Of errors that no training stands behind, only the first have a run of their own: making one takes forty milliseconds, and
    ``candidates.csv`` holds them all.
    """
    most = _MOST_UNTRAINED if isinstance(run.config.error, ProxyErrorConfig | TableErrorConfig) else math.inf
    recorded = 0

    def record(ended: CandidateRecord) -> None:
        nonlocal recorded
        recorded += 1
        if recorded > most:
            return
        candidate = ended.as_dict()
        same_shape = f"/{candidate['fingerprint']}" if candidate["theta"] else ""
        tracked = run.tracked.child(
            candidate["name"], f"{run.tracked.key}/{candidate['name']}{same_shape}", start=time.time() - candidate["seconds"]
        )
        shape = {name: candidate[name] for name in ("depth", "heads", "hidden", "intermediate")}
        tracked.params({**shape, **candidate.get("theta", {})})
        # The error is a curve over steps, and its last point the candidate's own.
        curve = [("error", error, steps) for steps, error in candidate["curve"] if error is not None]
        figures = {name: candidate.get(name) for name in _FIGURES if not (curve and name == "error")}
        figures |= {f"latency_{name}": value for name, value in candidate["percentiles"].items()}
        tracked.metrics({name: value for name, value in figures.items() if value is not None})
        tracked.metric_batch(curve)
        if candidate.get("checkpoint"):
            tracked.artifact(candidate["checkpoint"], "checkpoint")
        tracked.finish(candidate["state"])

    return record


def record_search(tracked: TrackedRun, result: Mapping[str, Any]) -> None:
    """Records what the search itself found: the winner, and the best W over the steps spent."""
    winner = result["winner"]
    tracked.params({"strategy": result["strategy"]["name"], "winner": winner["name"]})
    tracked.metric_batch(("best_w", row["w"], row["trained_steps"]) for row in result["history"] if row["w"] is not None)
    figures = {f"winner/{name}": winner.get(name) for name in ("w", "error", "parameters", "operations", "latency")}
    figures |= {name: result.get(name) for name in ("trained_steps", "processor_seconds")}
    tracked.metrics({name: value for name, value in figures.items() if value is not None})
