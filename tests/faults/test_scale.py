"""Eight workers on each storage, a sample of `python -m tests.faults scale`: nothing twice, nothing locked, the budget exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.errors import BortError
from bort.search.storage.config import JournalStorageConfig, StorageConfig
from bort.search.storage.status import study_status
from bort.search.strategies.config import OseConfig
from bort.search.worker import run_search
from tests.faults.scale import SMALL, Formula, many_workers
from tests.faults.training import problem
from tests.search.choices import STORAGE_SETTINGS


@pytest.fixture(params=STORAGE_SETTINGS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageConfig:
    return STORAGE_SETTINGS[request.param](request, tmp_path.name)


def test_eight_workers_on_one_study(tmp_path: Path, storage: StorageConfig) -> None:
    told = many_workers(tmp_path / "run", storage, 8, SMALL)
    assert {name: told[name] for name in ("lost", "twice", "steps over budget", "workers that failed", "different results")} == {
        "lost": 0, "twice": 0, "steps over budget": 0, "workers that failed": 0, "different results": 0,
    }, told["errors"]  # fmt: skip
    status = study_status(storage, tmp_path / "run" / "search")
    assert status.candidates == {"training": 0, "waiting": 0, "complete": told["candidates"], "pruned": 0, "failed": 0}
    assert status.steps == told["candidates"] * 40


def test_a_study_tells_how_far_it_is_while_workers_are_at_it(tmp_path: Path) -> None:
    storage = JournalStorageConfig()
    with pytest.raises(BortError, match="nothing was searched there yet"):
        study_status(storage, tmp_path)
    seen = []

    class Watched(Formula):
        def evaluate(self, *arguments: object) -> object:
            seen.append(study_status(storage, tmp_path))
            if len(seen) == 3:
                raise KeyboardInterrupt
            return super().evaluate(*arguments)

    searched = problem(estimator=Watched())
    with pytest.raises(KeyboardInterrupt):
        run_search(searched, OseConfig(), storage=storage, directory=tmp_path)
    assert [status.candidates["complete"] for status in seen] == [0, 1, 2]
    assert {status.candidates["training"] for status in seen} == {1}
    assert seen[0].best is None
    left = study_status(storage, tmp_path)
    assert (left.strategy, left.candidates["training"], left.candidates["waiting"], left.steps) == ("ose", 0, 1, 80)
    result = run_search(problem(estimator=Formula()), OseConfig(), storage=storage, directory=tmp_path)
    status = study_status(storage, tmp_path)
    assert status.best == {name: result["winner"][name] for name in ("depth", "heads", "hidden", "intermediate", "w")}
    assert status.last is not None
    with pytest.raises(BortError, match="no study 'other'"):
        study_status(JournalStorageConfig(study="other"), tmp_path)
