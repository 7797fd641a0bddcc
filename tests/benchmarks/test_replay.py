"""Replays: drawn tables, budgets, and what the outcomes add up to."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bort.architecture import Architecture
from bort.benchmarks.config import ReplayConfig
from bort.benchmarks.replay import Bench, Outcome, replay, summarise
from bort.benchmarks.resampling import SeedDraws
from bort.errors import ConfigurationError
from bort.quantities import ErrorInputs
from bort.search.config import SearchConfig
from bort.search.estimator_config import ProxyErrorConfig, TableErrorConfig
from bort.search.problem import Problem
from bort.search.space import SearchSpace
from bort.search.storage.config import MemoryStorageConfig
from bort.search.strategies.config import STRATEGIES, OseConfig, replayable
from bort.search.table import read_table, write_table
from bort.search.worker import run_search
from bort.settings import check_settings
from tests.search.synthetic_tables import FAMILIES, SHORT, TINY, errors

QUICK = ReplayConfig(seeds=3, budgets=[0.2, 0.5], strategies=["bound", "ose", "random"], resamples=100)


def make_problem(path: Path) -> Problem:
    """A problem on a table; at the top of the module, so that other processes can make it as well."""
    space = SearchSpace(**TINY)
    return Problem(
        space=space,
        maximum_point=Architecture(6, 4, 128, 256),
        parameters=functools.partial(Architecture.parameters, vocab_size=1000, positions=64),
        latency=lambda shape: float(shape.operations(64)),
        estimator=TableErrorConfig(path=str(path)).build(ErrorInputs(list(space))),
        search=SearchConfig(),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of every fourth shape, one of the others."""
    shapes = list(SearchSpace(**TINY))
    base, draw = errors(shapes, FAMILIES["smooth"], SHORT, 0), np.random.default_rng(1)
    rows = [
        {**vars(shape), "steps": steps, "error": float(value * np.exp(noise + 0.001 * draw.normal())), "seed": seed}
        for seed in range(3)
        for place, shape in enumerate(shapes)
        if seed == 0 or place % 4 == 0
        for noise in [0.02 * draw.normal()]
        for steps, value in zip(SHORT, base[place], strict=True)
    ]
    target = tmp_path_factory.mktemp("replay") / "table.csv"
    write_table(target, rows)
    return target


def bench(path: Path, config: ReplayConfig = QUICK) -> Bench:
    return Bench(make_problem(path), TableErrorConfig(path=str(path)), config)


def test_drawn_curves_are_measured_ones_or_deviate_as_they_do(path: Path) -> None:
    table = read_table(str(path))
    shapes, measured = list(SearchSpace(**TINY)), table.of_seed(None)
    draws = SeedDraws(table, shapes, SHORT, measured)
    assert draws.several == math.ceil(len(shapes) / 4)
    deviations, pooled = [], []
    for shape in shapes[::4]:
        logs = np.log([[table.curves[shape, seed][steps] for steps in SHORT] for seed in range(3)])
        deviations += [(row - logs.mean(axis=0)) * math.sqrt(3 / 2) for row in logs]
        pooled.append(logs.var(axis=0, ddof=1))
    assert draws.scatter == pytest.approx(np.sqrt(np.mean(pooled, axis=0)))
    seeds_seen: Counter[int] = Counter()
    for seed in range(20):
        drawn = draws.draw(seed)
        assert drawn == draws.draw(seed)
        for place, shape in enumerate(shapes):
            curve = [drawn[shape, steps] for steps in SHORT]
            if place % 4 == 0:
                own = [number for number in range(3) if [table.curves[shape, number][steps] for steps in SHORT] == curve]
                assert len(own) == 1
                seeds_seen[own[0]] += 1
            else:
                by = np.log(curve) - np.log([measured[shape, steps] for steps in SHORT])
                assert min(float(np.abs(by - row).max()) for row in deviations) < 1e-12
    assert min(seeds_seen.values()) > 10


def test_a_table_of_one_seed_is_drawn_as_it_is(path: Path, tmp_path: Path) -> None:
    lines = path.read_text().splitlines()
    single = tmp_path / "single.csv"
    single.write_text("\n".join(line for line in lines if line.rsplit(",", 1)[1] in ("seed", "0")) + "\n")
    one = bench(single)
    assert one.draws.several == 0
    assert one.draws.scatter == []
    assert one.draws.draw(5) == one.table.of_seed(None)


@pytest.mark.parametrize("name", replayable())
@pytest.mark.parametrize("budget", [0.02, 0.1, 0.3, 1.0])
def test_no_strategy_spends_more_than_its_budget(path: Path, tmp_path: Path, name: str, budget: float) -> None:
    problem = make_problem(path)
    count = len(problem.feasible)
    config = STRATEGIES[name].at_budget(budget, count)
    assert config is not None
    found = run_search(problem, config, storage=MemoryStorageConfig(), directory=tmp_path)
    least = (2 if name == "bound" else 1) / count
    assert found["trained_steps"] <= max(budget, least) * found["exhaustive_steps"] * (1 + 1e-9)


def test_replays_with_one_process_and_with_two_are_the_same(path: Path) -> None:
    table = TableErrorConfig(path=str(path))
    make = functools.partial(make_problem, path)
    alone = replay(make, table, QUICK)
    assert replay(make, table, QUICK, workers=2) == alone
    count = {(row["table"], row["strategy"], row["budget"]): row["replays"] for row in alone["rows"]}
    assert count["drawn", "ose", 0.2] == 3
    assert count["measured", "ose", 0.2] == 1
    assert count["measured", "random", 0.5] == 3
    assert len(alone["outcomes"]) == sum(count.values())
    described = alone["benchmark"]
    best = max((problem := make_problem(path)).candidates, key=lambda one: problem.w(one, error_of(problem, one.architecture)))
    assert described["winner"]["name"] == str(best.architecture)
    assert sum(described["drawn_winners"].values()) == QUICK.seeds


def with_errors(one: Bench, error: Callable[[Architecture], float], search: SearchConfig) -> Problem:
    values = {(shape, steps): error(shape) for shape in one.problem.space for steps in SHORT}
    estimator = one.problem.estimator.with_errors(values, "made")  # type: ignore[attr-defined]
    return replace(one.problem, estimator=estimator, search=search)


def test_equal_w_goes_to_the_shape_that_the_search_names(path: Path, tmp_path: Path) -> None:
    """Shapes that differ in their heads alone have equal p, i and here e."""
    one = bench(path)
    problem = with_errors(one, lambda shape: 1.0 / shape.depth, SearchConfig())
    scored = one.exhaustive(problem)
    assert scored[0][0] == scored[1][0]
    found = run_search(problem, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    assert scored[0][1] == found["winner"]["name"]
    assert (Architecture.parse(scored[0][1]).heads, Architecture.parse(scored[1][1]).heads) == (2, 4)


def test_the_complement_is_replayed_only_where_some_error_is_below_one(path: Path) -> None:
    one = bench(path, replace(QUICK, budgets=[0.02]))
    complement = SearchConfig(error_scale="complement")
    with pytest.raises(ConfigurationError, match=r"search\.error_scale=complement"):
        one.exhaustive(with_errors(one, lambda shape: 4.0 / shape.depth, complement))
    good = one.problem.space[20]
    one.problem = with_errors(one, lambda shape: 0.5 if shape == good else 1.5, complement)
    assert one.exhaustive(one.problem)[0] == (one.problem.w(one.problem.candidates[20], 0.5), str(good))
    (outcome,) = one.replay(("measured", "ose", 0))
    assert (outcome.winner, outcome.best, outcome.regret) == ("", str(good), 1.0)


def error_of(problem: Problem, shape: Architecture) -> float:
    return problem.estimator.evaluate(shape, {}, SHORT[-1], Path(), None).error  # type: ignore[arg-type]


def test_regret_and_success_are_those_of_the_drawn_table(path: Path) -> None:
    one = bench(path)
    for outcome in one.replay(("drawn", "random", 2)):
        problem = one.problem_of("drawn", 2)
        scored = {str(item.architecture): problem.w(item, error_of(problem, item.architecture)) for item in problem.candidates}
        assert scored[outcome.best] == max(scored.values())
        assert outcome.regret == pytest.approx(1 - scored[outcome.winner] / scored[outcome.best], abs=1e-12)
        assert outcome.found == (scored[outcome.winner] == scored[outcome.best])


def test_where_all_that_was_trained_failed_everything_is_lost(path: Path) -> None:
    one = bench(path, replace(QUICK, budgets=[0.02]))
    good = one.exhaustive(one.problem)[0][1]
    failing = {
        (shape, steps): error if str(shape) == good else math.inf for (shape, steps), error in one.table.of_seed(None).items()
    }
    one.problem = replace(one.problem, estimator=one.problem.estimator.with_errors(failing, "failing"))  # type: ignore[attr-defined]
    outcomes = [one.replay(("measured", "random", seed))[0] for seed in range(4)]
    assert {(outcome.regret, outcome.winner) for outcome in outcomes} <= {(1.0, ""), (0.0, good)}
    assert any(outcome.winner == "" for outcome in outcomes)


def outcome(strategy: str, seed: int, regret: float, certified: bool = False) -> Outcome:
    return Outcome("drawn", strategy, 0.1, seed, "x", "y", regret, 0.08, certified)


def test_rates_and_differences_have_their_textbook_intervals() -> None:
    config = ReplayConfig(seeds=10, budgets=[0.1], strategies=["bound", "random"], tables=["drawn"], resamples=4000)
    regrets = [0.0] * 8 + [0.005, 0.2]
    ours = [outcome("bound", seed, regret, certified=seed in (0, 9)) for seed, regret in enumerate(regrets)]
    theirs = [outcome("random", seed, 0.1 + 0.01 * seed) for seed in range(10)]
    found = summarise([*theirs, *ours], config)
    row = found["rows"][0]
    assert (row["strategy"], row["replays"], row["worst"], row["cost"]["most"]) == ("bound", 10, 0.2, 0.08)
    # Wilson's interval of 8 in 10 by its formula.
    z, share = 1.959964, 0.8
    centre, half = (share + z * z / 20) / (1 + z * z / 10), z / (1 + z * z / 10) * math.sqrt(share * 0.2 / 10 + z * z / 400)
    assert row["success"] == pytest.approx({"value": 0.8, "low": centre - half, "high": centre + half}, abs=1e-6)
    assert row["near"]["value"] == 0.9
    assert (row["certified"], row["wrongly"]) == (0.2, 0.1)
    second = found["rows"][1]["regret"]
    spread = 1.96 * np.std([0.1 + 0.01 * seed for seed in range(10)]) / math.sqrt(10)
    assert (second["value"] - second["low"], second["high"] - second["value"]) == pytest.approx((spread, spread), rel=0.1)
    comparison = found["comparisons"][0]
    assert (comparison["strategy"], comparison["against"]) == ("bound", "random")
    assert comparison["success"]["value"] == 0.8
    assert comparison["regret"]["value"] == pytest.approx(0.145 - 0.0205)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seeds": 0}, "seeds"),
        ({"budgets": []}, "budgets"),
        ({"budgets": [0.2, 0.1]}, "budgets"),
        ({"budgets": [0.0]}, "budgets"),
        ({"budgets": [1.5]}, "budgets"),
        ({"strategies": []}, "strategies"),
        ({"strategies": ["bond"]}, "strategies"),
        ({"strategies": ["tpe", "tpe"]}, "strategies"),
        ({"tables": ["other"]}, "tables"),
        ({"confidence": 1.0}, "confidence"),
        ({"resamples": 10}, "resamples"),
    ],
)
def test_what_cannot_be_replayed_is_refused(change: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"replay\.{key}="):
        check_settings(ReplayConfig(**change), "replay")  # type: ignore[arg-type]


def test_errors_that_are_not_in_a_table_are_refused(path: Path) -> None:
    problem = replace(make_problem(path), estimator=ProxyErrorConfig().build(ErrorInputs()))
    with pytest.raises(ConfigurationError, match="error=proxy"):
        Bench(problem, TableErrorConfig(path=str(path)), QUICK)
