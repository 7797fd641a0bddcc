"""The database is restarted in order, or its disk is full: the search waits, and ends as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bort.observer import Quiet
from bort.search import worker as run
from bort.search.storage.config import MemoryStorageConfig, PostgresStorageConfig
from bort.search.strategies.config import OseConfig
from bort.search.worker import run_search
from tests.faults.postgres import Postgres, server, why_not
from tests.faults.small_disk import SmallDisk
from tests.faults.training import TinyTraining, check_result, comparable, problem


class Listener(Quiet):
    """Keeps what a search warns of, and mends it."""

    def __init__(self, mend: Callable[[], None]) -> None:
        self.warnings: list[str] = []
        self._mend = mend

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._mend()


class Troubled(TinyTraining):
    """Something happens to the database while one of the rungs is trained, when nobody has a lock on the study."""

    def __init__(self, rung: int, trouble: Callable[[], None]) -> None:
        super().__init__()
        self._left, self._trouble = rung, trouble

    def evaluate(self, *arguments: Any) -> Any:
        self._left -= 1
        if not self._left:
            self._trouble()
        return super().evaluate(*arguments)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := why_not():
        pytest.skip(reason)
    monkeypatch.setattr(run, "ATTEMPT_SECONDS", 0.1)


def check(
    folder: Path, postgres: Postgres, trouble: Callable[[], None], on_warning: Callable[[], None] = lambda: None
) -> list[str]:
    """Searches with trouble at the sixth rung, compares with a search without, and returns the warnings."""
    expected = run_search(problem(), OseConfig(), storage=MemoryStorageConfig(), directory=folder / "expected")
    listener = Listener(on_warning)
    found = run_search(
        problem(estimator=Troubled(6, trouble)),
        OseConfig(),
        storage=PostgresStorageConfig(url=postgres.url),
        directory=folder / "troubled",
        observer=listener,
    )
    assert comparable(found) == comparable(expected)
    assert check_result(found) == len(expected["candidates"])
    return listener.warnings


def test_a_restart_in_order(tmp_path: Path) -> None:
    with server() as postgres:
        warnings = check(tmp_path, postgres, postgres.restart)
    assert len(warnings) == 1
    assert "was lost" in warnings[0]
    assert "Waiting for it" in warnings[0]


def test_a_full_disk(tmp_path: Path, small_disk: SmallDisk) -> None:
    small_disk.hold(1 << 30)
    folder = small_disk.path / "postgres"
    folder.mkdir()
    postgres = Postgres(folder=folder)
    try:
        postgres.start()
        warnings = check(
            tmp_path, postgres, lambda: small_disk.hold(small_disk.used()), on_warning=lambda: small_disk.hold(1 << 30)
        )
    finally:
        postgres.close()
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
