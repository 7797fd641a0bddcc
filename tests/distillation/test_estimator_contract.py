"""One contract for every estimator: the ones that train, the one that shares a training, the table and the formula."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bort.architecture import Architecture
from bort.candidate import Estimator
from bort.distillation.terms import LossConfig
from bort.errors import BortError
from bort.observer import Quiet
from bort.quantities import ErrorInputs
from bort.search.config import SearchConfig
from bort.search.problem import Problem
from bort.search.storage.config import JournalStorageConfig
from bort.search.strategies.config import BoundConfig, OseConfig
from bort.search.worker import run_search
from tests.distillation.conftest import IMPL
from tests.search.choices import ERROR_SETTINGS, SPACE

LOSS = LossConfig(relations=1.0, relation_heads=2)
#: Makes an estimator anew, of a folder that workers share and a seed.
Make = Callable[[Path, int], Estimator]


@pytest.fixture(params=ERROR_SETTINGS)
def make(request: pytest.FixtureRequest, world: Any) -> Make:
    def build(folder: Path, seed: int) -> Estimator:
        inputs = ErrorInputs(list(SPACE), folder, lambda: world.setup(LOSS, seed=seed), IMPL)
        return ERROR_SETTINGS[request.param](folder, seed).build(inputs)

    return build


def answers(estimator: Estimator, folder: Path, shapes: Any = SPACE) -> list[float]:
    return [
        estimator.evaluate(shape, {}, rung, folder / "candidates" / str(shape), Quiet()).error
        for shape in shapes
        for rung in estimator.rungs
    ]


def test_rungs_fingerprints_and_answers(make: Make, tmp_path: Path) -> None:
    one, same, other = make(tmp_path / "a", 3), make(tmp_path / "b", 3), make(tmp_path / "c", 4)
    assert list(one.rungs) == sorted(set(one.rungs))
    assert one.rungs[0] >= 0
    assert one.fingerprint == make(tmp_path / "a", 3).fingerprint == same.fingerprint
    assert other.fingerprint != one.fingerprint
    found = answers(one, tmp_path / "a")
    assert all(math.isfinite(error) and error > 0 for error in found)
    # Neither the order of questions nor who is asked makes a difference; the seed does.
    backwards = answers(same, tmp_path / "b", list(SPACE)[::-1])
    rungs = len(one.rungs)
    assert [backwards[at : at + rungs] for at in range(0, len(backwards), rungs)][::-1] == [
        found[at : at + rungs] for at in range(0, len(found), rungs)
    ]
    assert answers(make(tmp_path / "a", 3), tmp_path / "a") == found, "an answer once given is given again"
    assert answers(other, tmp_path / "c") != found


def test_evaluations_are_whole(make: Make, tmp_path: Path) -> None:
    one = make(tmp_path, 3)
    shape = SPACE[len(SPACE) - 1]
    for rung in one.rungs:
        evaluation = one.evaluate(shape, {}, rung, tmp_path / "candidate", Quiet())
        assert evaluation.steps == rung
        assert evaluation.tokens >= 0
        assert evaluation.seconds >= 0
        assert evaluation.processor_seconds >= 0
        json.dumps(dict(evaluation.metrics))
        if evaluation.checkpoint:
            from transformers import AutoModelForMaskedLM

            config = AutoModelForMaskedLM.from_pretrained(evaluation.checkpoint).config
            sizes = (config.num_hidden_layers, config.num_attention_heads, config.hidden_size, config.intermediate_size)
            assert Architecture(*sizes) == shape
    cost = getattr(one, "shared_cost", None)
    if cost:
        assert cost().steps > 0


def test_a_rung_that_there_is_not_is_refused(make: Make, tmp_path: Path) -> None:
    one = make(tmp_path, 3)
    if one.name == "proxy":
        return
    with pytest.raises(BortError, match="7 steps"):
        one.evaluate(SPACE[0], {}, 7, tmp_path / "candidate", Quiet())


@pytest.mark.parametrize("strategy", [OseConfig(), BoundConfig(budget=0.7)], ids=["ose", "bound"])
def test_a_search_on_it_ends_and_ends_the_same_when_asked_again(make: Make, tmp_path: Path, strategy: Any) -> None:
    def search() -> dict[str, Any]:
        problem = Problem(
            space=SPACE,
            maximum_point=Architecture(3, 2, 32, 24),
            parameters=lambda shape: shape.parameters(60, 24),
            latency=lambda shape: float(shape.operations(12)),
            estimator=make(tmp_path, 3),
            search=SearchConfig(),
            reference={shape: 1.0 / shape.encoder_parameters() for shape in SPACE},
        )
        return run_search(problem, strategy, seed=1, storage=JournalStorageConfig(), directory=tmp_path / "search")

    result = search()
    assert search() == result
    estimator = make(tmp_path, 3)
    last = estimator.rungs[-1]
    assert result["winner"]["steps"] == last
    assert result["exhaustive_steps"] == len(SPACE) * last
    reference = result["correlation"]["reference"]
    assert reference["n"] >= 1
    if estimator.name == "proxy" and strategy.name == "ose":
        assert result["correlation"]["kendall_tau"] == reference["kendall_tau"] == 1.0
    certificate = result["certificate"]
    if estimator.name == "supernet":
        assert result["shared_steps"] == certificate["shared"]["steps"] == 4 * 3
        assert result["tokens"] == 4 * 3 * 4 * 12
        assert result["processor_seconds"] >= certificate["shared"]["processor_seconds"] > 0
    else:
        assert result["shared_steps"] == 0
    if estimator.name == "distill":
        assert certificate["exhaustive"]["tokens"] == len(SPACE) * 4 * 4 * 12
        if strategy.name == "ose":
            assert certificate["exhaustive"]["processor_seconds"] == pytest.approx(result["processor_seconds"])
        else:
            assert certificate["exhaustive"]["processor_seconds"] > result["processor_seconds"] * 0.9
