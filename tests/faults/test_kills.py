"""A sample of the kills of `python -m tests.faults kills`: nothing lost, nothing counted twice, the result as if undisturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.kills import Tally, campaign
from tests.faults.postgres import Postgres, server, why_not


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server of its own, as it is going to be killed."""
    if reason := why_not():
        pytest.skip(reason)
    with server() as made:
        yield made


def check(tally: Tally, kills: int) -> None:
    assert sum(tally.kills.values()) == kills
    assert (tally.lost, tally.twice, tally.different) == (0, 0, 0)
    assert tally.checkpoints >= tally.candidates
    # A worker that starts while the database is down, or is cut off while it starts, is refused; nothing else may go wrong.
    assert set(tally.refused) <= {"ConfigurationError", "StudyLostError"}


def test_workers_and_coordinators_killed_at_random(tmp_path: Path) -> None:
    tally = campaign(tmp_path, 8, 1, None, ("journal",))["journal"]
    check(tally, 8)
    assert not tally.refused


def test_the_database_killed_and_cut_off_at_random(tmp_path: Path, postgres: Postgres) -> None:
    tally = campaign(tmp_path, 6, 3, postgres, ("postgres",), each=3)["postgres"]
    check(tally, 6)
