"""One contract for every strategy, with every estimator, on every storage."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bort.architecture import Architecture
from bort.candidate import Evaluation
from bort.errors import BortError
from bort.observer import Quiet
from bort.quantities import ERRORS, LATENCIES, ErrorInputs
from bort.search.candidates import CandidateRecord
from bort.search.config import SearchConfig
from bort.search.estimator_config import ProxyErrorConfig
from bort.search.problem import Problem
from bort.search.storage.config import STORAGES, JournalStorageConfig, MemoryStorageConfig, PostgresStorageConfig, StorageConfig
from bort.search.strategies.config import STRATEGIES as REGISTERED
from bort.search.strategies.config import BoundConfig, Nsga2Config, OseConfig, RandomConfig, StrategyConfig, TpeConfig, replayable
from bort.search.worker import run_search
from tests.search.choices import ERROR_SETTINGS, LATENCY_SETTINGS, STORAGE_SETTINGS, STRATEGY_SETTINGS
from tests.search.synthetic_tables import SHORT, TINY, table_problem
from tests.search.w_reference import exact_savings, exact_w

STRATEGIES: dict[str, StrategyConfig] = {**STRATEGY_SETTINGS, "ose": OseConfig(), "ose-3": OseConfig(stride=3)}


def test_every_choice_is_under_contract() -> None:
    assert set(STRATEGY_SETTINGS) == set(REGISTERED)
    assert set(ERROR_SETTINGS) == set(ERRORS)
    assert set(LATENCY_SETTINGS) == set(LATENCIES)
    assert set(STORAGE_SETTINGS) == set(STORAGES)


class Trained:
    """Stands for real training: keeps its state in the candidate's directory and refuses to be asked twice for the same.

    Args:
        inner: The table that gives the errors.
        diverges: Tells the error of a candidate whose training fails, or ``None``.
    """

    name = "distill"

    def __init__(self, inner: Any, diverges: Callable[[Architecture], float | None] = lambda shape: None) -> None:
        self._inner, self._diverges = inner, diverges
        self.fingerprint = f"trained {inner.fingerprint}"

    @property
    def rungs(self) -> Sequence[int]:
        return self._inner.rungs

    def evaluate(self, architecture: Architecture, theta: Any, steps: int, directory: Path, observer: Any) -> Evaluation:
        directory.mkdir(parents=True, exist_ok=True)
        state = directory / "state.json"
        before = json.loads(state.read_text()) if state.exists() else 0
        assert before < steps, "what was trained already must not be trained again"
        state.write_text(json.dumps(steps))
        found = self._inner.evaluate(architecture, {}, steps, directory, observer)
        failed = self._diverges(architecture)
        return Evaluation(
            steps=steps,
            error=found.error * (1.0 + 0.1 * len(theta)) if failed is None else failed,
            tokens=100 * (steps - before),
            processor_seconds=0.5,
            seconds=0.25,
            checkpoint=str(directory),
            metrics={"accuracy": 0.5},
        )


@pytest.fixture(params=["memory", "journal", "postgres"])
def storage(request: pytest.FixtureRequest) -> StorageConfig:
    if request.param == "postgres":
        return PostgresStorageConfig(url=request.getfixturevalue("postgres_url"), study=request.node.name)
    return MemoryStorageConfig() if request.param == "memory" else JournalStorageConfig()


@pytest.fixture(params=["table", "proxy", "trained"])
def problem(request: pytest.FixtureRequest, tmp_path: Path) -> Problem:
    problem = table_problem(tmp_path, TINY, "noisy")
    if request.param == "proxy":
        return replace(problem, estimator=ProxyErrorConfig().build(ErrorInputs()))
    return replace(problem, estimator=Trained(problem.estimator)) if request.param == "trained" else problem


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_contract(tmp_path: Path, problem: Problem, strategy: str, storage: StorageConfig) -> None:
    told: list[CandidateRecord] = []
    settings = STRATEGIES[strategy]
    result = run_search(
        problem, settings, seed=7, storage=storage, directory=tmp_path / "a", observer=Quiet(), on_candidate=told.append
    )
    candidates, last = result["candidates"], problem.estimator.rungs[-1]
    complete = [candidate for candidate in candidates if candidate["state"] == "complete"]

    # What is said of a candidate is right and said once.
    assert len({candidate["fingerprint"] for candidate in candidates}) == len(candidates) == len(told)
    assert {record.number for record in told} == {candidate["number"] for candidate in candidates}
    p_max, i_max = problem.maximum
    for candidate in candidates:
        shape = Architecture.parse(candidate["name"])
        assert (candidate["depth"], candidate["hidden"]) == (shape.depth, shape.hidden)
        assert candidate["parameters"] == problem.parameters(shape)
        assert candidate["operations"] == problem.latency(shape)
        assert [steps for steps, _ in candidate["curve"]] == list(problem.estimator.rungs)[: len(candidate["curve"])]
        if candidate["state"] == "complete":
            assert candidate["steps"] == last
            expected = exact_w(exact_savings(candidate["parameters"], candidate["latency"], p_max, i_max), candidate["error"])
            assert candidate["w"] == pytest.approx(float(expected), rel=1e-12)

    # The winner is the best of those that were trained to the end, and the front is not dominated.
    assert result["winner"]["w"] == max(candidate["w"] for candidate in complete)
    assert result["winner"]["steps"] == last
    names = {row["name"] for row in result["front"]}
    assert names <= {candidate["name"] for candidate in complete}
    assert result["sensitivity"]["scales"]["reciprocal"] == result["winner"]["name"]
    assert 0.0 <= result["hypervolume"]["value"] <= 1.0

    # The cost is what was looked at, and never more than allowed.
    assert result["trained_steps"] == sum(candidate["steps"] for candidate in candidates)
    assert result["exhaustive_steps"] == len(problem.space) * last
    assert result["history"][-1]["trained_steps"] == result["trained_steps"]
    assert result["history"][-1]["name"] == result["winner"]["name"]
    assert [row["w"] for row in result["history"]] == sorted(row["w"] for row in result["history"])
    if strategy == "ose":
        assert result["trained_steps"] == result["exhaustive_steps"]
        assert len(complete) == len(problem.space)
    elif strategy == "ose-3":
        order = [str(shape) for shape in problem.space.ordered_by(problem.parameters, problem.latency)]
        assert [candidate["name"] for candidate in candidates] == order[::3]
    elif strategy == "bound":
        assert result["trained_steps"] <= max(0.3 * result["exhaustive_steps"], 3 * last)
    elif strategy in ("random", "tpe", "nsga2"):
        assert len(candidates) == 9

    # The certificate agrees, is a file of its own, and everything is plain JSON.
    certificate = json.loads((tmp_path / "a" / "certificate.json").read_text())
    assert certificate["winner"] == result["winner"]["name"]
    assert certificate["space"] == len(problem.space) == 24
    assert sum(certificate["trained_to"].values()) == len(candidates)
    assert certificate["never_trained"] + certificate["trained"] == 24
    assert certificate["sense"]
    assert json.loads(json.dumps(result)) == result

    # Asked again, nothing is trained and nothing changes.
    if storage.name != "memory":
        assert run_search(problem, settings, seed=7, storage=storage, directory=tmp_path / "a") == result


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_search(tmp_path: Path, strategy: str) -> None:
    problem = table_problem(tmp_path, TINY, "noisy")
    found = [
        run_search(problem, STRATEGIES[strategy], seed=seed, storage=MemoryStorageConfig(), directory=tmp_path)
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1]
    if strategy in ("random", "tpe", "nsga2"):
        assert found[0]["candidates"] != found[2]["candidates"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_diverged_candidate_is_recorded_and_the_search_goes_on(tmp_path: Path, strategy: str, value: float) -> None:
    problem = table_problem(tmp_path, TINY, "noisy")
    estimator = Trained(problem.estimator, lambda shape: value if shape.depth == 2 or shape.hidden == 32 else None)
    result = run_search(
        replace(problem, estimator=estimator), STRATEGIES[strategy], seed=7, storage=JournalStorageConfig(), directory=tmp_path
    )
    failed = [candidate for candidate in result["candidates"] if candidate["state"] == "failed"]
    assert failed
    assert all((c["depth"] == 2 or c["hidden"] == 32) and c["w"] is None and "the error at 10 steps" in c["reason"] for c in failed)
    assert result["winner"]["depth"] != 2
    assert result["winner"]["hidden"] != 32
    assert result["certificate"]["failed"] == len(failed)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_in_which_everything_fails_says_so(tmp_path: Path, strategy: str) -> None:
    problem = table_problem(tmp_path, TINY)
    estimator = Trained(problem.estimator, lambda shape: math.nan)
    with pytest.raises(BortError, match=r"All \d+ candidates .* failed \(the error at 10 steps is nan\)"):
        run_search(replace(problem, estimator=estimator), STRATEGIES[strategy], storage=MemoryStorageConfig(), directory=tmp_path)


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    whole = run_search(problem, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path / "whole")

    class Full(Trained):
        room = 20

        def evaluate(self, architecture: Architecture, theta: Any, steps: int, directory: Path, observer: Any) -> Evaluation:
            if self.room == 0:
                raise OSError(28, "No space left on device", str(directory))
            self.room -= 1
            return self._inner.evaluate(architecture, theta, steps, directory, observer)

    estimator = Full(problem.estimator)
    estimator.fingerprint, estimator.name = problem.estimator.fingerprint, "table"
    limited = replace(problem, estimator=estimator)
    with pytest.raises(BortError, match=r"D2-.* could not be trained to 40 steps \(.*No space left.*kept"):
        run_search(limited, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path / "full")
    estimator.room = 24 * 3 - 20
    assert run_search(limited, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path / "full") == whole


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_theta_is_tried(tmp_path: Path, strategy: str) -> None:
    problem = table_problem(tmp_path, TINY)
    search = SearchConfig(thetas=[{"learning_rate": 1.0}, {}])
    problem = replace(problem, estimator=Trained(problem.estimator), search=search)
    result = run_search(problem, STRATEGIES[strategy], seed=3, storage=MemoryStorageConfig(), directory=tmp_path)
    assert result["winner"]["theta"] == {}, "the other θ makes every error larger"
    if strategy == "ose-3":
        tried = [(candidate["name"], len(candidate["theta"])) for candidate in result["candidates"]]
        assert len(tried) == 2 * 8
        assert {name for name, _ in tried} == {name for name, count in tried if count}


@pytest.mark.parametrize("strategy", ["ose", "tpe", "bound"])
@pytest.mark.parametrize("scale", ["relative", "complement"])
def test_other_scales_of_the_error(tmp_path: Path, strategy: str, scale: str) -> None:
    problem = replace(table_problem(tmp_path, TINY, seed=11), search=SearchConfig(error_scale=scale, maximum_point_error=0.25))
    if scale == "complement":
        # 1 - e is for errors below 1.
        estimator: Any = problem.estimator
        values = {key: 0.1 * error for key, error in estimator._errors.items()}
        problem = replace(problem, estimator=estimator.with_errors(values, "smaller"))
    result = run_search(problem, STRATEGIES[strategy], seed=3, storage=MemoryStorageConfig(), directory=tmp_path)
    p_max, i_max = problem.maximum
    winner = result["winner"]
    expected = exact_w(exact_savings(winner["parameters"], winner["latency"], p_max, i_max), winner["error"], scale, 0.25)
    assert winner["w"] == pytest.approx(float(expected))
    assert winner["w"] == max(c["w"] for c in result["candidates"] if c["w"] is not None)
    sensitivity = result["sensitivity"]
    assert sensitivity["scales"][scale] == winner["name"]
    unscaled = next(row for row in sensitivity["exponents"] if row["exponent"] == 1.0)
    assert (unscaled["winner"], unscaled["w"]) == (winner["name"], winner["w"])


def test_every_strategy_with_the_whole_budget_finds_the_exhaustive_winner(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY, "crossing", seed=4)
    whole = {name: REGISTERED[name].at_budget(1.0, 24) for name in replayable()}
    whole |= {"tpe": TpeConfig(trials=99), "bound": BoundConfig(budget=1.0, confidence=0.9999)}
    found = {
        name: run_search(problem, config, seed=1, storage=MemoryStorageConfig(), directory=tmp_path)["winner"]["name"]
        for name, config in whole.items()
    }
    assert len(set(found.values())) == 1, found


def test_the_public_numbers_of_a_table_search(tmp_path: Path) -> None:
    """What the command promises: e at the largest steps, and the difference from rung to rung as the cost."""
    problem = table_problem(tmp_path, TINY, "crossing", seed=2)
    with (tmp_path / "crossing-2.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["steps"]) == SHORT[-1]]
    p_max, i_max = problem.maximum
    best = max(
        rows,
        key=lambda row: exact_w(
            exact_savings(
                *(count(Architecture(*(int(row[name]) for name in TINY))) for count in (problem.parameters, problem.latency)),
                p_max,
                i_max,
            ),
            float(row["error"]),
        ),
    )
    result = run_search(problem, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    assert {name: result["winner"][name] for name in TINY} == {name: int(best[name]) for name in TINY}
    assert result["winner"]["error"] == float(best["error"])
    assert result["trained_steps"] == len(rows) * SHORT[-1]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (OseConfig(stride=0), r"strategy\.stride=0"),
        (OseConfig(stride=25), r"strategy\.stride=25 .*in \[1, 24\]"),
        (RandomConfig(trials=0), r"strategy\.trials=0"),
        (TpeConfig(trials=-1), r"strategy\.trials=-1"),
        (Nsga2Config(population=1), r"strategy\.population=1"),
        (BoundConfig(budget=0.0), r"strategy\.budget=0\.0"),
        (BoundConfig(confidence=1.0), r"strategy\.confidence=1\.0"),
        (BoundConfig(minimum_full=0), r"strategy\.minimum_full=0"),
        (StrategyConfig(name="magic"), "strategy=magic .*bound, ose, random, tpe, nsga2"),
    ],
)
def test_settings_of_strategies_that_cannot_be_used_are_refused(tmp_path: Path, config: StrategyConfig, sentence: str) -> None:
    with pytest.raises(BortError, match=sentence):
        run_search(table_problem(tmp_path, TINY), config, storage=MemoryStorageConfig(), directory=tmp_path)
