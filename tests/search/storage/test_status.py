"""Progress of a study: the same from each storage, and the errors if it cannot be read."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from bort.errors import BortError, ConfigurationError
from bort.search.storage.base import CANDIDATE, IDENTITY, RUNG, Coordination
from bort.search.storage.config import JournalStorageConfig, SqliteStorageConfig, StorageConfig
from bort.search.storage.status import Status, study_status
from tests.search.choices import STORAGE_SETTINGS

CHOICES: dict[str, Any] = {"depth": CategoricalDistribution([1, 2, 4]), "theta": CategoricalDistribution([0, 1])}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Optuna's tables with nothing in them: making them takes seconds."""
    folder = tmp_path_factory.mktemp("tables")
    SqliteStorageConfig().open(folder).close()
    return folder / "study.db"


@pytest.fixture(params=STORAGE_SETTINGS)
def storage(request: pytest.FixtureRequest, tmp_path: Path, tables: Path) -> StorageConfig:
    if request.param == "sqlite":
        shutil.copy(tables, tmp_path)
    return STORAGE_SETTINGS[request.param](request, tmp_path.name)


@pytest.fixture
def coordination(storage: StorageConfig, tmp_path: Path) -> Iterator[Coordination]:
    """The storage, as a living worker has it open."""
    with closing(storage.open(tmp_path)) as coordination:
        yield coordination


def make(coordination: Coordination, name: str, directions: Sequence[str] = ("maximize",)) -> optuna.Study:
    with coordination.exclusive():
        study = optuna.create_study(storage=coordination.storage, study_name=name, directions=directions)
        study.set_user_attr(IDENTITY, {"strategy.name": "bound"})
    return study


def add(
    coordination: Coordination,
    study: optuna.Study,
    state: TrialState,
    depth: int,
    values: Sequence[float] | None = None,
    steps: Sequence[int] = (),
    known_by: str = CANDIDATE,
) -> int:
    """Adds a trial that was trained for some rungs, half a second for each of their steps."""
    rungs = {f"{RUNG}{step}": {"order": 0, "steps": step, "error": 1.5, "seconds": step / 2} for step in steps}
    trial = create_trial(
        state=state,
        params={"depth": depth, "theta": 1},
        distributions=CHOICES,
        values=values,
        user_attrs={known_by: f"candidate {depth}", **rungs},
    )
    with coordination.exclusive():
        number: int = coordination.storage.get_trial(coordination.storage.create_new_trial(study._study_id, trial)).number
    return number


def every_state(coordination: Coordination, name: str) -> optuna.Study:
    """A study with something in each state: three complete, one pruned, two failed, one that nobody is at, two in hand."""
    study = make(coordination, name)
    add(coordination, study, TrialState.COMPLETE, 1, [0.5], [10, 20])
    add(coordination, study, TrialState.COMPLETE, 4, [2.25], [10, 20])
    add(coordination, study, TrialState.COMPLETE, 2, [-3.0], [10, 20])
    add(coordination, study, TrialState.PRUNED, 2, None, [10])
    for _ in range(2):
        add(coordination, study, TrialState.FAIL, 2, None, [10])
    add(coordination, study, TrialState.RUNNING, 2, None, [10])
    in_hand = [add(coordination, study, TrialState.RUNNING, 2) for _ in range(2)]
    # A repetition, which is nobody's candidate, however large its W; and a trial whose worker died before it was a candidate.
    add(coordination, study, TrialState.COMPLETE, 1, [9.0], [10, 20], "bort:repeats")
    add(coordination, study, TrialState.RUNNING, 1, None, [], "something")
    with coordination.exclusive():
        assert all(coordination.claim(number) for number in in_hand)
    return study


def test_every_state_is_counted_and_the_largest_w_is_the_best(
    storage: StorageConfig, coordination: Coordination, tmp_path: Path
) -> None:
    study = every_state(coordination, storage.study)
    with coordination.exclusive():
        ended = [
            trial.datetime_complete for trial in study.get_trials() if trial.datetime_complete and CANDIDATE in trial.user_attrs
        ]
    expected = Status(
        "bound",
        {"training": 2, "waiting": 1, "complete": 3, "pruned": 1, "failed": 2},
        3 * 20 + 4 * 10,
        3 * 15.0 + 4 * 5.0,
        {"depth": 4, "theta": 1, "w": 2.25},
        max(ended).isoformat(timespec="seconds"),
    )
    assert study_status(storage, tmp_path) == expected
    # Asking took nothing from the worker, and once it has gone nobody is at its candidates.
    assert study_status(storage, tmp_path) == expected
    with coordination.exclusive():
        for trial in study.get_trials():
            coordination.release(trial.number)
    gone = study_status(storage, tmp_path)
    assert (gone.candidates["training"], gone.candidates["waiting"]) == (0, 3)


def test_of_several_objectives_the_smallest_error_is_the_best(
    storage: StorageConfig, coordination: Coordination, tmp_path: Path
) -> None:
    study = make(coordination, storage.study, ["minimize"] * 3)
    for depth, error in ((4, 0.75), (1, 0.25), (2, 0.5)):
        add(coordination, study, TrialState.COMPLETE, depth, [10.0 * depth, 5.0 * depth, error], [10])
    assert study_status(storage, tmp_path).best == {"depth": 1, "theta": 1, "error": 0.25}


def test_a_study_that_was_only_begun(storage: StorageConfig, coordination: Coordination, tmp_path: Path) -> None:
    make(coordination, storage.study)
    nothing = dict.fromkeys(("training", "waiting", "complete", "pruned", "failed"), 0)
    assert study_status(storage, tmp_path) == Status("bound", nothing, 0, 0.0, None, None)


def test_studies_are_told_apart_and_a_deleted_one_is_gone(
    storage: StorageConfig, coordination: Coordination, tmp_path: Path
) -> None:
    other = make(coordination, f"{storage.study} other")
    add(coordination, other, TrialState.COMPLETE, 4, [9.0], [10])
    with pytest.raises(BortError, match=r"holds no study '.*': nothing was searched under that name yet"):
        study_status(storage, tmp_path)
    study = make(coordination, storage.study)
    add(coordination, study, TrialState.COMPLETE, 1, [1.0], [20])
    assert study_status(storage, tmp_path).best == {"depth": 1, "theta": 1, "w": 1.0}
    with coordination.exclusive():
        optuna.delete_study(study_name=storage.study, storage=coordination.storage)
    with pytest.raises(BortError, match="holds no study"):
        study_status(storage, tmp_path)
    make(coordination, storage.study)
    assert study_status(storage, tmp_path).candidates["complete"] == 0


@pytest.mark.parametrize("storage", [JournalStorageConfig(), SqliteStorageConfig()], ids=["journal", "sqlite"])
def test_where_nothing_was_searched(storage: StorageConfig, tmp_path: Path) -> None:
    with pytest.raises(BortError, match=rf"no study in {tmp_path}/study\.\w+: nothing was searched there yet"):
        study_status(storage, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_counts_as_far_as_its_lines_are_whole(tmp_path: Path) -> None:
    storage = JournalStorageConfig()
    with closing(storage.open(tmp_path)) as coordination:
        every_state(coordination, storage.study)
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole), 97):
        told = []
        for end in (cut, whole.rindex(b"\n", 0, cut) + 1):
            journal.write_bytes(whole[:end])
            told.append(study_status(storage, tmp_path))
            assert journal.read_bytes() == whole[:end], "asking writes nothing"
        assert told[0] == told[1]


@pytest.mark.parametrize(
    "line",
    [
        b"not a journal",
        b"\xff\xfe",
        b"[]",
        b'{"op_code": 4, "study_id": 0, "state": 9}',
        b'{"op_code": 6, "trial_id": 0, "state": 1, "values": ["x"]}',
        b'{"op_code": 2, "study_id": 0, "user_attr": 3}',
    ],
)
def test_a_damaged_journal_is_told_by_key_and_value(line: bytes, tmp_path: Path) -> None:
    storage = JournalStorageConfig()
    with closing(storage.open(tmp_path)) as coordination:
        add(coordination, make(coordination, storage.study), TrialState.RUNNING, 1)
    journal = tmp_path / "study.journal"
    kept = journal.read_bytes()
    journal.write_bytes(kept + line + b"\n")
    with pytest.raises(ConfigurationError, match="an intact Optuna journal") as caught:
        study_status(storage, tmp_path)
    assert (caught.value.key, caught.value.value) == ("storage.path", journal)


def test_a_journal_of_a_newer_optuna_is_told(tmp_path: Path) -> None:
    (tmp_path / "study.journal").write_bytes(b'{"op_code": 99}\n{"op_code": 0}\n')
    with pytest.raises(ConfigurationError, match=r"storage\.path=.*operation 99.*a newer Optuna wrote it"):
        study_status(JournalStorageConfig(), tmp_path)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"not a database " * 99)
    with pytest.raises(ConfigurationError, match=rf"storage\.path={tmp_path}/study\.db .*an intact database"):
        study_status(SqliteStorageConfig(), tmp_path)


def test_tables_of_another_version_are_told(tables: Path, tmp_path: Path) -> None:
    storage = SqliteStorageConfig(path=str(shutil.copy(tables, tmp_path)))
    with closing(sqlite3.connect(tmp_path / "study.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(ConfigurationError, match=r"storage\.path=.*have the schema v99\.0\.0\.a"):
        study_status(storage, tmp_path)
