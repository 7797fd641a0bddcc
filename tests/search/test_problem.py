"""Limits, and what makes two problems the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_tables import TINY, table_problem

from bort.errors import BortError, ConfigurationError
from bort.search.config import DistillErrorConfig, MemoryStorageConfig, OseConfig, SearchConfig
from bort.search.run import run_search


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


def test_a_measured_latency_orders_and_limits(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    measured = replace(
        problem,
        latency=lambda shape: shape.depth * 1.5,
        latency_name="cpu",
        search=SearchConfig(max_latency_ms=3.1),
    )
    assert {candidate.architecture.depth for candidate in measured.feasible} == {1, 2}


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
