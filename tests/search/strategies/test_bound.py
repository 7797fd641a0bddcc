"""The surrogate of learning curves, the planner on it, and what the bound strategy promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bort.search.problem import Problem
from bort.search.space import SearchSpace
from bort.search.storage.config import MemoryStorageConfig
from bort.search.strategies import surrogate
from bort.search.strategies.config import BoundConfig
from bort.search.strategies.planner import Knowledge, Outlook, Planner
from bort.search.strategies.surrogate import LEVEL, CurveSurrogate, Observations
from bort.search.worker import run_search
from tests.search.synthetic_tables import BENCH, FAMILIES, GEOMETRIC, LINEAR, PAPER, SHORT, SMALL, TINY, errors, table_problem


def features(space: SearchSpace) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers = [[s.depth, s.heads, s.hidden, s.intermediate, s.encoder_parameters()] for s in space]
    return np.log(np.array(numbers, dtype=np.float64))


def some_data(space: SearchSpace, family: str, full: int, first: int) -> tuple[Observations, np.ndarray[Any, Any]]:
    values = np.log(errors(list(space), FAMILIES[family], GEOMETRIC, 0))
    draw = np.random.default_rng(0).permutation(len(space))
    candidates = np.concatenate([np.repeat(draw[:full], 8), draw[full : full + first]])
    rungs = np.concatenate([np.tile(np.arange(8), full), np.zeros(first, dtype=np.int64)])
    return Observations(candidates, rungs, values[candidates, rungs]), values


def test_the_gradient_of_the_posterior_is_exact() -> None:
    from scipy.optimize import approx_fprime

    space = SearchSpace(**TINY)
    data, _ = some_data(space, "crossing", 3, 10)
    model = CurveSurrogate(features(space), GEOMETRIC)
    parts = model._parts(data)
    point = model._medians + 0.2 * np.random.default_rng(1).normal(size=len(model._medians))
    loss, gradient = model._loss(point, data, parts)
    numeric = approx_fprime(point, lambda x: model._loss(x, data, parts)[0], 1e-6)
    assert np.isfinite(loss)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-2)


def test_the_posterior_is_that_of_the_joint_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace(**TINY)
    data, _ = some_data(space, "noisy", 3, 8)
    model = CurveSurrogate(features(space), GEOMETRIC)
    model.fit(data)
    candidates, rungs = np.array([0, 5, int(data.candidates[0]), 17]), np.array([2, 7])
    means, variances, covariances = model.condition(data).curves(candidates, rungs)

    def prior(first: tuple[Any, Any], second: tuple[Any, Any]) -> np.ndarray[Any, Any]:
        every = model.covariance(first, np.arange(len(space)), np.arange(8))
        return every[:, second[0], second[1]]

    at = (data.candidates, data.rungs)
    inverse = np.linalg.inv(prior(at, at) + (model.noise + 1e-8) * np.eye(len(data)))
    for place, candidate in enumerate(candidates):
        here = (np.array([candidate, candidate]), rungs)
        cross = prior(at, here)
        joint = prior(here, here) - cross.T @ inverse @ cross + model.noise * np.eye(2)
        mean = data.values.mean() + cross.T @ inverse @ (data.values - data.values.mean())
        np.testing.assert_allclose(means[place], mean, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(variances[place], np.diag(joint), rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(covariances[place], joint[:, 1], rtol=1e-4, atol=1e-8)

    # The last rung of many: together, and each by itself with the variances of those that have no chance left too large.
    everyone = np.arange(len(space))
    ends = (everyone, np.full(len(space), 7))
    cross = prior(at, ends)
    joint = prior(ends, ends) - cross.T @ inverse @ cross + model.noise * np.eye(len(space))
    posterior = model.condition(data)
    np.testing.assert_allclose(posterior.together(everyone[3:9]), joint[3:9, 3:9], rtol=1e-4, atol=1e-7)
    for few in (64, 5):
        monkeypatch.setattr(surrogate, "FEW", few)
        hurdles = np.where(everyone % 2, 100.0, -100.0)
        means, variances = posterior.ends(hurdles, -6.0)
        np.testing.assert_allclose(means, data.values.mean() + cross.T @ inverse @ (data.values - data.values.mean()), rtol=1e-6)
        np.testing.assert_allclose(variances[1::2], np.diag(joint)[1::2], rtol=1e-4, atol=1e-8)
        assert (variances > np.diag(joint) - 1e-8).all()
        assert few == 64 or (variances[::2] > np.diag(joint)[::2] + 1e-6).any()


def test_predictions_cover_what_was_left_out() -> None:
    space = SearchSpace(**PAPER)
    data, values = some_data(space, "noisy", 10, 60)
    model = CurveSurrogate(features(space), GEOMETRIC)
    model.fit(data)
    means, variances, _ = model.condition(data).curves(np.arange(len(space)), np.array([7]))
    off = (values[:, -1] - means[:, 0]) / np.sqrt(variances[:, 0])
    assert (np.abs(off) < 1.96).mean() > 0.85
    assert np.sqrt(variances).mean() < 0.3 * values[:, -1].std()
    assert variances.max() < LEVEL


def knowledge(planner: Planner, values: np.ndarray[Any, Any], jobs: list[tuple[int, int]], known: Knowledge) -> None:
    for candidate, rung in jobs:
        for place in range(int(known.reached[candidate]) + 1, rung + 1):
            known.errors[candidate, place] = values[candidate, place]
            known.order.append((candidate, place))
            known.spent += planner.rungs[place] - (planner.rungs[place - 1] if place else 0)


@pytest.mark.parametrize(
    ("rungs", "budget"), [(GEOMETRIC, 61_000.0), (LINEAR, 7_000.0), (SHORT, 300.0), ((5,), 40.0), ((10, 20), 1.0)]
)
def test_the_first_looks_are_a_ladder(rungs: tuple[int, ...], budget: float) -> None:
    space = SearchSpace(**BENCH)
    planner = Planner(np.linspace(0.9, 0.3, len(space)), features(space), rungs, budget=budget, confidence=0.99)
    jobs = planner.opening()
    assert len({candidate for candidate, _ in jobs}) == len(jobs) <= 48
    looked = np.bincount([rung for _, rung in jobs], minlength=len(rungs))[::-1].cumsum()[::-1]
    for rung, steps in enumerate(rungs[:-1]):
        assert looked[rung] == len(jobs) * rungs[0] // steps, "half as many for twice the steps"
    assert sum(rungs[rung] for _, rung in jobs) <= 0.2 * budget or len(jobs) == 1


def test_chances_are_those_of_a_race() -> None:
    """Of five that may all be better than the best so far, one is far ahead: the threats are large, but only it can win."""
    space = SearchSpace(**TINY)
    data, _ = some_data(space, "noisy", 3, 8)
    planner = Planner(np.full(len(space), 0.5), features(space), GEOMETRIC, budget=1e6, confidence=0.99)
    posterior = planner._surrogate.condition(data)
    five, count = np.arange(5), len(space)
    look = Outlook(np.full(count, 0.9), np.full(count, 0.0), np.full(count, 0.01), np.full(count, 0.1), 1.0, 0.0)
    look.mean[2] = -1.0
    assert planner._chances(five, look, posterior)[2] > 0.99
    look.mean[2] = 0.0
    chances = planner._chances(five, look, posterior)
    assert chances.sum() == pytest.approx(1.0, abs=0.01)
    assert chances.min() > 0.05
    look.hurdle[:] = -1.0
    look.threat[:] = 1e-9
    assert planner._chances(five, look, posterior).max() < 1e-9


def test_plans_depend_on_what_is_known_and_on_nothing_else() -> None:
    space = SearchSpace(**SMALL)
    values = np.log(errors(list(space), FAMILIES["noisy"], GEOMETRIC, 3))
    savings = np.linspace(0.9, 0.3, len(space))

    def planner() -> Planner:
        return Planner(savings, features(space), GEOMETRIC, budget=0.1 * len(space) * GEOMETRIC[-1], confidence=0.99)

    nobody = np.zeros(len(space), dtype=np.bool_)
    known = Knowledge(np.full(values.shape, np.nan), nobody, nobody)
    lasting = planner()
    for _ in range(6):
        jobs, _ = lasting.plan(known)
        assert jobs == planner().plan(known)[0], "a planner that has just been made plans the same"
        knowledge(lasting, values, jobs, known)
    assert known.spent <= lasting.budget


@pytest.mark.parametrize("family", ["smooth", "noisy", "crossing"])
def test_the_exhaustive_winner_is_found_at_a_tenth_of_the_cost(tmp_path: Path, family: str) -> None:
    found = 0
    for seed in range(3):
        problem = table_problem(tmp_path, PAPER, family, GEOMETRIC, seed=100 + seed)
        result = run_search(problem, BoundConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
        assert result["trained_steps"] <= 0.1 * result["exhaustive_steps"]
        found += result["winner"]["w"] == max(exhaustive(problem, tmp_path).values())
    assert found >= 2


def exhaustive(problem: Problem, folder: Path) -> dict[str, float]:
    last = problem.estimator.rungs[-1]
    return {
        c.fingerprint: problem.w(c, problem.estimator.evaluate(c.architecture, {}, last, folder, None).error)  # type: ignore[arg-type]
        for c in problem.candidates
    }


def test_candidates_that_cannot_win_are_never_trained(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, SMALL, "smooth")
    largest = problem.space[len(problem.space) - 1]
    problem = replace(problem, maximum_point=largest)
    result = run_search(problem, BoundConfig(budget=1.0), storage=MemoryStorageConfig(), directory=tmp_path)
    certificate = result["certificate"]
    assert str(largest) not in {candidate["name"] for candidate in result["candidates"]}, "W of T itself is 0"
    assert certificate["certified"]
    assert certificate["never_trained"] > len(problem.space) / 3
    assert certificate["screened"] == certificate["never_trained"]
    assert certificate["chance_of_another"] < 0.01
    assert certificate["steps"] < certificate["budget_steps"], "it ends when it is sure, not when the budget does"
    dropped = [candidate for candidate in result["candidates"] if candidate["state"] == "pruned"]
    assert certificate["dropped_by_bound"] == len(dropped)
    assert all("chance of being the winner" in candidate["reason"] and candidate["w"] is None for candidate in dropped)


def test_a_budget_that_ends_too_early_is_said(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, PAPER, "wild", seed=5)
    certificate = run_search(problem, BoundConfig(budget=0.02), storage=MemoryStorageConfig(), directory=tmp_path)["certificate"]
    assert not certificate["certified"]
    assert "the best that the budget allowed" in certificate["sense"]
    assert certificate["chance_of_another"] > 0.01
    assert certificate["share"] <= 0.02


def test_violated_assumptions_are_reported(tmp_path: Path) -> None:
    class Jumping:
        """A table whose curves jump up and down, one candidate in five by a lot."""

        name, immediate, fingerprint = "table", True, "jumping"
        rungs = (10, 20, 40)

        def evaluate(self, architecture, theta, steps, directory, observer):  # type: ignore[no-untyped-def]
            from bort.candidate import Evaluation

            draw = np.random.default_rng([steps, *map(ord, str(architecture))])
            jump = 3.0 if draw.random() < 0.2 else 1.0
            return Evaluation(steps=steps, error=float(jump * np.exp(0.05 * draw.normal())))

    problem = replace(table_problem(tmp_path, PAPER), estimator=Jumping())
    found = run_search(problem, BoundConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    checks = found["certificate"]["checks"]
    assert checks["rising"] > 0.1
    assert any("made the error larger" in sentence for sentence in checks["violations"])
    smooth = run_search(table_problem(tmp_path, PAPER), BoundConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    assert smooth["certificate"]["checks"]["violations"] == []
