"""Reads a study's rows out of Optuna's tables, for those who only want to know how far it is.

Optuna makes every trial of a database anew from an object for each of its rows, which takes some seconds for ten thousand of them,
and importing it and SQLAlchemy another. What is read here is the same, as a test compares, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

from bort.files import parse_json
from bort.search.config import PostgresStorageConfig, StorageConfig
from bort.search.coordination import storage_file
from bort.search.file_coordination import FileLocks
from bort.search.journal_reading import StudyRecord, TrialRecord
from bort.search.postgres_coordination import PostgresLocks

#: The tables that are known here, as Optuna's migrations name them.
SCHEMA = "v3.2.0.a"

#: Returns the rows that a statement finds, with values in the place of its question marks.
Rows = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]

_OF_TRIALS = "JOIN trials t ON t.trial_id = x.trial_id WHERE t.study_id = ?"
_INFINITE = {"INF_POS": inf, "INF_NEG": -inf}


@contextmanager
def opened(storage: StorageConfig, directory: Path) -> Iterator[tuple[FileLocks | PostgresLocks, Rows]]:
    """Yields the locks of a study in a database, and what reads its tables.

    Raises:
        ConfigurationError: A server cannot be reached.
        OSError: A file's folder cannot be written.
        sqlite3.Error: A file cannot be opened.
    """
    if isinstance(storage, PostgresStorageConfig):
        with closing(PostgresLocks(storage.url, storage.study)) as server:
            yield server, server.rows
    else:
        import sqlite3

        file = storage_file(storage, directory)
        with closing(FileLocks(file, storage.study)) as locks, closing(sqlite3.connect(file)) as database:
            yield locks, lambda statement, values: database.execute(statement, values).fetchall()


def read_tables(rows: Rows, name: str) -> StudyRecord | None:
    """Returns a study, ``None`` where there is none of that name.

    Raises:
        ValueError: The tables are not those that are known here, or damaged.
        Exception: What the database's driver raises where it cannot read them.
    """
    if (found := rows("SELECT version_num FROM alembic_version", ())) != [(SCHEMA,)]:
        raise ValueError(f"the tables have the schema {found}")
    studies = rows("SELECT study_id FROM studies WHERE study_name = ?", (name,))
    if not studies:
        return None
    study = studies[0]
    ((objectives,),) = rows("SELECT count(*) FROM study_directions WHERE study_id = ?", study)
    record = StudyRecord(objectives)
    for key, text in rows("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", study):
        record.attributes[key] = parse_json(text)
    trials: dict[int, TrialRecord] = {}
    for identifier, number, state, ended in rows(
        "SELECT trial_id, number, state, datetime_complete FROM trials WHERE study_id = ? ORDER BY number", study
    ):
        # SQLite has no times of its own.
        when = datetime.fromisoformat(ended) if isinstance(ended, str) else ended
        trials[identifier] = TrialRecord(number, state, {}, ended=when)
    for identifier, key, text in rows(f"SELECT x.trial_id, x.key, x.value_json FROM trial_user_attributes x {_OF_TRIALS}", study):
        trials[identifier].attributes[key] = parse_json(text)
    for identifier, value, kind in rows(
        f"SELECT x.trial_id, x.value, x.value_type FROM trial_values x {_OF_TRIALS} ORDER BY x.objective", study
    ):
        trials[identifier].values.append(_INFINITE[kind] if value is None else value)
    for identifier, parameter, place, distribution in rows(
        f"SELECT x.trial_id, x.param_name, x.param_value, x.distribution_json FROM trial_params x {_OF_TRIALS}", study
    ):
        trials[identifier].parameters[parameter] = place, distribution
    record.trials = list(trials.values())
    return record
