"""Limits, and what makes two problems the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.search.config import BoundConfig, JournalStorageConfig, MemoryStorageConfig, OseConfig, SearchConfig
from bort.search.estimator_config import DistillErrorConfig
from bort.search.worker import run_search
from tests.search.synthetic_tables import TINY, table_problem


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
            DistillErrorConfig(steps=40, curve=curve).check()
