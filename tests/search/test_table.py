"""Tables: seeds and columns, and what a search that trains leaves behind."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from bort.architecture import Architecture
from bort.candidate import Evaluation
from bort.errors import ConfigurationError
from bort.observer import Quiet
from bort.quantities import ErrorInputs
from bort.search.estimator_config import TableErrorConfig
from bort.search.space import SearchSpace
from bort.search.storage.config import MemoryStorageConfig
from bort.search.strategies.config import OseConfig
from bort.search.table import TABLE, read_table, write_table
from bort.search.worker import run_search
from tests.search.synthetic_tables import SHORT, TINY, table_problem

SHAPE = {"depth": 1, "heads": 2, "hidden": 32, "intermediate": 64}
SPACE = SearchSpace([1], [2], [32], [64])
ONE = Architecture(**SHAPE)


def table(path: Path, *rows: dict[str, Any]) -> Path:
    write_table(path, [{**SHAPE, **row} for row in rows])
    return path


def error_at(path: Path, steps: int, **settings: Any) -> float:
    estimator = TableErrorConfig(path=str(path), **settings).build(ErrorInputs(list(SPACE)))
    return estimator.evaluate(ONE, {}, steps, path.parent, Quiet()).error


def test_the_lowest_seed_is_read_unless_another_is_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", {"steps": 5, "error": 0.5, "seed": 7}, {"steps": 5, "error": 0.25, "seed": 3})
    assert error_at(path, 5) == 0.25
    assert error_at(path, 5, seed=7) == 0.5
    assert read_table(str(path)).seeds == [3, 7]
    fingerprints = {TableErrorConfig(path=str(path), seed=seed).build(ErrorInputs(list(SPACE))).fingerprint for seed in (None, 7)}
    assert len(fingerprints) == 2


def test_the_last_error_of_each_architecture_is_that_of_its_full_training(tmp_path: Path) -> None:
    deep = {**SHAPE, "depth": 2}
    rows = [(SHAPE, 5, 0.5, 3), (SHAPE, 20, 0.25, 3), (SHAPE, 10, 0.1, 3), (SHAPE, 40, 0.0, 7), (deep, 5, math.inf, 3)]
    write_table(tmp_path / "t.csv", [{**shape, "steps": steps, "error": error, "seed": seed} for shape, steps, error, seed in rows])
    read = read_table(str(tmp_path / "t.csv"))
    assert read.last_of_seed(None) == {ONE: 0.25, Architecture(**deep): math.inf}
    assert read.last_of_seed(7) == {ONE: 0.0}


def test_another_column_can_be_the_error(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", {"steps": 5, "error": 0.5, "kl": 0.125})
    assert error_at(path, 5, column="kl") == 0.125


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        ([{"steps": 5, "error": 0.5, "seed": 1}] * 2, {}, r"error\.path=.*repeats D1-A2-H32-I64 at 5 steps with seed 1"),
        ([{"steps": 5, "error": 0.5}], {"seed": 1}, r"error\.seed=1 .*it has no column seed"),
        ([{"steps": 5, "error": 0.5, "seed": 0}], {"seed": 1}, r"error\.seed=1 .*its seeds are 0"),
        ([{"steps": 5, "error": 0.5}], {"column": "kl"}, r"error\.path=.*lacks kl"),
        ([{"steps": 5, "error": 0.5, "kl": math.nan}], {"column": "kl"}, r"error\.path=.*kl=nan"),
        ([{"steps": 5, "error": 0.5, "seed": ""}], {}, r"error\.path=.*integers and an error in line 2"),
        (
            [{"steps": 5, "error": 0.5, "seed": 0}, {"steps": 9, "error": 0.5, "seed": 0}, {"steps": 5, "error": 0.5, "seed": 1}],
            {"seed": 2},
            r"error\.seed=2 .*its seeds are 0, 1",
        ),
    ],
)
def test_what_a_table_does_not_hold_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], sentence: str
) -> None:
    path = table(tmp_path / "t.csv", *rows)
    with pytest.raises(ConfigurationError, match=sentence):
        error_at(path, 5, **settings)


def test_a_seed_that_not_every_candidate_has_is_refused(tmp_path: Path) -> None:
    rows = [{"steps": 5, "error": 0.5, "seed": seed, "intermediate": width} for seed, width in ((0, 64), (1, 64), (1, 128))]
    path = table(tmp_path / "t.csv", *rows)
    space = SearchSpace([1], [2], [32], [64, 128])
    assert TableErrorConfig(path=str(path), seed=1).build(ErrorInputs(list(space))).rungs == [5]
    with pytest.raises(ConfigurationError, match="lacks 1: first D1-A2-H32-I128 at 5 steps"):
        TableErrorConfig(path=str(path)).build(ErrorInputs(list(space)))


class Trained:
    """Stands for training: errors of a table, a seed, a further figure, and one shape that diverges after its first rung."""

    name = "distill"
    seed = 4
    FAILS = Architecture(3, 2, 32, 64)

    def __init__(self, inner: Any) -> None:
        self._inner, self.fingerprint, self.rungs = inner, "trained", inner.rungs

    def evaluate(self, architecture: Architecture, theta: Any, steps: int, directory: Path, observer: Any) -> Evaluation:
        error = self._inner.evaluate(architecture, {}, steps, directory, observer).error
        if architecture == self.FAILS and steps > self.rungs[0]:
            error = math.nan
        return Evaluation(steps=steps, error=error, processor_seconds=1.5, metrics={"kl": 2 * error})


def test_a_search_that_trained_leaves_a_table_that_replays_it(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    trained = {**vars(problem), "estimator": Trained(problem.estimator)}
    trained = type(problem)(**{name: trained[name] for name in problem.__dataclass_fields__})
    first = run_search(trained, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path / "search")
    path = tmp_path / "search" / TABLE
    again = {**trained.__dict__, "estimator": TableErrorConfig(path=str(path)).build(ErrorInputs(list(problem.space)))}
    again = type(problem)(**{name: again[name] for name in problem.__dataclass_fields__})
    second = run_search(again, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path / "replay")
    assert second["winner"]["w"] == first["winner"]["w"]
    assert second["trained_steps"] == first["trained_steps"]
    assert not (tmp_path / "replay" / TABLE).exists()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(problem.space) * len(SHORT)
    assert {row["seed"] for row in rows} == {"4"}
    failed = [row["error"] for row in rows if Architecture(*(int(row[name]) for name in SHAPE)) == Trained.FAILS]
    assert [math.isinf(float(error)) for error in failed] == [False, True, True]
    last = rows[len(SHORT) - 1]
    assert float(last["processor_seconds"]) == 1.5 * len(SHORT)
    assert float(last["kl"]) == 2 * float(last["error"])
    shape = Architecture(*(int(last[name]) for name in SHAPE))
    assert int(last["parameters"]) == problem.parameters(shape)
    assert int(last["operations"]) == problem.latency(shape)
