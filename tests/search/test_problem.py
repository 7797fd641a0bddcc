"""Limits, and what makes two problems the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bort.architecture import Architecture
from bort.distillation.estimator_config import DistillErrorConfig
from bort.errors import BortError, ConfigurationError
from bort.observer import Quiet
from bort.search.config import ERROR_SCALES, SearchConfig
from bort.search.estimators import TableEstimator
from bort.search.problem import Candidate, Problem
from bort.search.storage.config import JournalStorageConfig, MemoryStorageConfig
from bort.search.strategies.config import (
    STRATEGIES,
    BoundConfig,
    OseConfig,
    RandomConfig,
    StrategyConfig,
    replayable,
)
from bort.search.w import ranked
from bort.search.worker import run_search
from bort.settings import check_settings
from tests.search.synthetic_tables import TINY, table_problem

EVERY_STRATEGY = [settings for name in replayable() if (settings := STRATEGIES[name].at_budget(1.0, 24)) is not None]


def test_every_candidate_has_its_exact_counts(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    assert len(problem.candidates) == len(problem.space) == 24
    p_max, i_max = problem.maximum
    for candidate in problem.candidates:
        assert candidate.parameters == candidate.architecture.parameters(1000, 64)
        assert candidate.latency == candidate.architecture.operations(64)
        expected = (1 - candidate.parameters / p_max) * (1 - candidate.latency / i_max)
        assert candidate.savings == pytest.approx(expected)


def test_limits_keep_candidates_out(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    limit = problem.candidates[11].parameters
    bounded = replace(problem, search=SearchConfig(max_parameters=limit))
    assert {c.fingerprint for c in bounded.feasible} == {c.fingerprint for c in problem.candidates if c.parameters <= limit}
    found = run_search(bounded, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    free = run_search(problem, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    assert found["winner"]["parameters"] <= limit
    assert found["trained_steps"] == found["exhaustive_steps"] == len(bounded.feasible) * 40
    assert found["constraints"]["limits"]["max_parameters"] == {"limit": limit, "within": len(bounded.feasible)}
    assert found["certificate"]["beyond_limits"] == 24 - len(bounded.feasible)
    allowed = [c for c in free["candidates"] if c["parameters"] <= limit]
    assert found["winner"]["w"] == max(c["w"] for c in allowed)


def test_no_candidate_within_the_limits_names_the_nearest(tmp_path: Path) -> None:
    problem = replace(table_problem(tmp_path, TINY), search=SearchConfig(max_parameters=1000, max_operations=10))
    with pytest.raises(BortError, match=r"None of the 24 candidates.*nearest, D1-A\d-H32-I64 .*max_parameters=1000 by"):
        run_search(problem, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_parameters": 0}, r"search\.max_parameters=0"),
        ({"max_operations": -5}, r"search\.max_operations=-5"),
        ({"thetas": []}, r"search\.thetas"),
        ({"thetas": [{}, {}]}, r"search\.thetas"),
        ({"error_scale": "log"}, r"search\.error_scale=log.*reciprocal"),
        ({"error_scale": "relative"}, r"search\.maximum_point_error"),
        ({"max_latency_ms": 5.0}, "measured latency"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, settings, sentence: str) -> None:  # type: ignore[no-untyped-def]
    problem = replace(table_problem(tmp_path, TINY), search=SearchConfig(**settings))
    with pytest.raises(BortError, match=sentence):
        run_search(problem, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    assert not (tmp_path / "certificate.json").exists()


def _milliseconds(shape: Architecture) -> float:
    return shape.depth * 1.5 + shape.heads / 100


def test_a_measured_latency_orders_limits_and_is_recorded(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    measured = replace(
        problem,
        latency=_milliseconds,
        latency_name="cpu",
        search=SearchConfig(max_latency_ms=3.1),
        circumstances={"unit": "ms", "sequence_length": 32},
        percentiles={shape: {"p50_ms": _milliseconds(shape), "p99_ms": 9.0} for shape in problem.space},
    )
    assert {candidate.architecture.depth for candidate in measured.feasible} == {1, 2}
    assert [candidate.architecture.heads for candidate in measured.candidates[:2]] == [2, 4], (
        "of equal size, the faster comes first"
    )
    result = run_search(measured, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    assert result["latency"] == {"name": "cpu", "unit": "ms", "sequence_length": 32}
    winner = result["winner"]
    assert winner["percentiles"] == {"p50_ms": winner["latency"], "p99_ms": 9.0}
    assert winner["operations"] == Architecture.parse(winner["name"]).operations(32)
    assert result["constraints"]["limits"]["max_latency_ms"]["within"] == len(measured.feasible)


def test_a_study_goes_on_only_with_the_latencies_it_was_begun_with(tmp_path: Path) -> None:
    measured = replace(table_problem(tmp_path, TINY), latency=_milliseconds, latency_name="cpu")
    run_search(measured, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)
    other = replace(measured, latency=lambda shape: _milliseconds(shape) * 1.01)
    with pytest.raises(BortError, match=r"latency\.values: \w+ there, \w+ here"):
        run_search(other, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)


@pytest.mark.parametrize(("excess", "accepted"), [(0.04, True), (0.06, False)])
def test_a_candidate_may_be_measured_as_slow_as_the_maximum_point(tmp_path: Path, excess: float, accepted: bool) -> None:
    """Two medians of one shape differ by noise; a candidate beyond that would give W a meaning it has not."""
    problem = table_problem(tmp_path, TINY)
    slowest = max(_milliseconds(shape) for shape in problem.space)
    point = problem.maximum_point
    measured = replace(
        problem,
        latency=lambda shape: slowest / (1.0 + excess) if shape == point else _milliseconds(shape),
        latency_name="cpu",
    )
    if not accepted:
        with pytest.raises(ConfigurationError, match=r"search_space\.maximum_point=.*has latency 4\.52 against"):
            measured.check()
        return
    measured.check()
    assert min(candidate.savings for candidate in measured.candidates) == 0.0
    for strategy in (OseConfig(), BoundConfig(budget=0.3)):
        assert run_search(measured, strategy, storage=MemoryStorageConfig(), directory=tmp_path)["winner"]["w"] > 0


def test_a_maximum_point_that_is_too_small_is_refused(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    with pytest.raises(ConfigurationError, match=r"search_space\.maximum_point"):
        replace(problem, maximum_point=problem.space[3]).check()


def test_the_curve_of_a_training_is_halved_or_named() -> None:
    assert DistillErrorConfig(steps=40, rungs=3).rung_steps() == [10, 20, 40]
    assert DistillErrorConfig(steps=40, curve=[5, 15, 40]).rung_steps() == [5, 15, 40]
    for curve in ([5, 15], [15, 5, 40], [0, 40], [40, 40]):
        with pytest.raises(ConfigurationError, match=r"error\.curve"):
            check_settings(DistillErrorConfig(steps=40, curve=curve), "error")


def with_last_errors(problem: Problem, error: Callable[[Candidate], float]) -> Problem:
    """Returns a problem whose errors are read off a function, the same at every rung."""
    estimator = problem.estimator
    assert isinstance(estimator, TableEstimator)
    values = {(c.architecture, steps): error(c) for c in problem.candidates for steps in estimator.rungs}
    return replace(problem, estimator=estimator.with_errors(values, "made"))


@pytest.mark.parametrize("strategy", EVERY_STRATEGY, ids=lambda config: config.name)
def test_the_complement_refuses_errors_of_which_none_is_below_one(tmp_path: Path, strategy: StrategyConfig) -> None:
    problem = table_problem(tmp_path, TINY, search=SearchConfig(error_scale="complement"))
    problem = with_last_errors(problem, lambda candidate: 8.0 - 4.0 * (1.0 - candidate.savings))
    with pytest.raises(ConfigurationError, match=r"search\.error_scale=complement .*reciprocal or relative") as refusal:
        run_search(problem, strategy, storage=MemoryStorageConfig(), directory=tmp_path)
    assert refusal.value.key == "search.error_scale"
    assert not (tmp_path / "certificate.json").exists()


@pytest.mark.parametrize("strategy", EVERY_STRATEGY, ids=lambda config: config.name)
def test_the_complement_names_no_winner_of_an_error_above_one(tmp_path: Path, strategy: StrategyConfig) -> None:
    """1 - e of the smaller ones is negative; multiplied by more savings it was the lowest W, by fewer the highest of those."""
    problem = table_problem(tmp_path, TINY, search=SearchConfig(error_scale="complement"))
    problem = with_last_errors(problem, lambda candidate: 1.5 - 0.04 * candidate.index)
    result = run_search(problem, strategy, storage=MemoryStorageConfig(), directory=tmp_path)
    complete = [candidate for candidate in result["candidates"] if candidate["w"] is not None]
    for candidate in complete:
        saved = problem.by_fingerprint[candidate["fingerprint"]].savings
        assert candidate["w"] == pytest.approx(saved * max(0.0, 1.0 - candidate["error"]), abs=1e-15)
    winner = result["winner"]
    assert winner["error"] < 1.0
    assert winner["w"] == max(candidate["w"] for candidate in complete) > 0.0
    assert result["sensitivity"]["scales"]["complement"] == winner["name"]


def test_an_error_without_meaning_for_the_complement_is_warned_of(tmp_path: Path) -> None:
    class Listener(Quiet):
        def __init__(self) -> None:
            self.warnings: list[str] = []

        def warn(self, message: str) -> None:
            self.warnings.append(message)

    problem = table_problem(tmp_path, TINY, search=SearchConfig(error_scale="complement"))
    for last, count in ((0.5, 0), (1.5, 1)):
        listener = Listener()
        constant = with_last_errors(problem, lambda candidate, last=last: last - 0.04 * candidate.index)  # type: ignore[misc]
        strategy, storage = OseConfig(stride=24), MemoryStorageConfig()
        try:
            run_search(constant, strategy, storage=storage, directory=tmp_path, observer=listener)
        except ConfigurationError:
            assert count
        assert len(listener.warnings) == count
        assert all("search.error_scale=complement requires errors < 1" in message for message in listener.warnings)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", ERROR_SCALES)
def test_one_rule_decides_between_candidates_of_equal_w(tmp_path: Path, scale: str, seed: int) -> None:
    """Shapes that differ in their heads alone have equal p, i and here e; the one with fewer heads comes first in the space."""
    search = SearchConfig(error_scale=scale, maximum_point_error=0.7)
    problem = table_problem(tmp_path, TINY, search=search)
    problem = with_last_errors(problem, lambda candidate: 0.9 / candidate.architecture.depth)
    noted: list[str] = []

    class Listener(Quiet):
        def progress(self, name: str, done: float, total: float, note: str = "") -> None:
            noted.append(note)

    strategy, storage = RandomConfig(trials=24), MemoryStorageConfig()
    result = run_search(problem, strategy, seed=seed, storage=storage, directory=tmp_path, observer=Listener())
    winner = result["winner"]
    ties = [candidate for candidate in result["candidates"] if candidate["w"] == winner["w"]]
    assert [tie["heads"] for tie in sorted(ties, key=lambda tie: tie["index"])] == [2, 4]
    assert winner["heads"] == 2
    unscaled = next(row for row in result["sensitivity"]["exponents"] if row["exponent"] == 1.0)
    assert unscaled == {"exponent": 1.0, "winner": winner["name"], "w": winner["w"]}
    assert result["sensitivity"]["scales"][scale] == winner["name"]
    assert result["history"][-1]["name"] == result["history"][-2]["name"] == winner["name"]
    assert result["certificate"]["winner"] == winner["name"]
    assert noted[-1].startswith(f"best {winner['name']}, W")
    assert [row["name"] for row in ranked(result["candidates"])[:2]] == [winner["name"], winner["name"].replace("A2", "A4")]
