"""How far a study is: read from its storage alone, so that it can be asked while workers are at it, and without what they need."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any, Protocol

from bort.errors import BortError, ConfigurationError
from bort.files import parse_json
from bort.optuna_storage import stumbled
from bort.quiet import quiet
from bort.search.storage.base import CANDIDATE, IDENTITY, RUNG
from bort.search.storage.config import FileStorageConfig, PostgresStorageConfig, StorageConfig
from bort.search.storage.files import FileLocks
from bort.search.storage.postgres import PostgresLocks

#: Optuna's operations and states, by the numbers that a journal has for them.
_STUDY, _DELETED, _STUDY_ATTRIBUTE, _TRIAL, _PARAMETER, _STATE, _ATTRIBUTE = 0, 1, 2, 4, 5, 6, 8

_JOURNAL_STATES = {0: "RUNNING", 1: "COMPLETE", 2: "PRUNED", 3: "FAIL", 4: "WAITING"}

_FINISHED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass
class TrialRecord:
    """A trial.

    Args:
        number: Its number in its study.
        state: Name of its state, as Optuna has it.
        attributes: Its user attributes.
        values: Its objectives' values; empty before it is complete.
        ended: When it ended, in local time; ``None`` before.
        parameters: What was chosen: values, or each value's place with the distribution that it is of, as Optuna writes them.
    """

    number: int
    state: str
    attributes: dict[str, Any]
    values: list[float] = field(default_factory=list)
    ended: datetime | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def chosen(self) -> dict[str, Any]:
        """Returns the values that were chosen; every choice of a search is one of a list."""
        return {
            name: json.loads(value[1])["attributes"]["choices"][int(value[0])] if isinstance(value, tuple) else value
            for name, value in self.parameters.items()
        }


@dataclass
class StudyRecord:
    """A study.

    Args:
        objectives: How many it has.
        attributes: Its user attributes.
        trials: Its trials, in their order.
    """

    objectives: int
    attributes: dict[str, Any] = field(default_factory=dict)
    trials: list[TrialRecord] = field(default_factory=list)


def read_journal(path: Path) -> dict[str, StudyRecord]:
    """Returns the studies of a journal by name. A last line without an end counts for nothing.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no journal, or a damaged one.
    """
    studies: list[StudyRecord | None] = []
    names: dict[str, int] = {}
    trials: list[TrialRecord] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                _apply(parse_json(line.decode()), studies, names, trials)
            except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
                raise ValueError(f"line {number}: {type(error).__name__}: {error}") from error
    return {name: study for name, index in names.items() if (study := studies[index]) is not None}


def _apply(line: dict[str, Any], studies: list[StudyRecord | None], names: dict[str, int], trials: list[TrialRecord]) -> None:
    code = line["op_code"]
    if code == _STUDY and line["study_name"] not in names:
        names[line["study_name"]] = len(studies)
        studies.append(StudyRecord(len(line["directions"])))
    elif code in (_DELETED, _STUDY_ATTRIBUTE, _TRIAL):
        study = studies[line["study_id"]] if 0 <= line["study_id"] < len(studies) else None
        if study is None:
            return
        if code == _STUDY_ATTRIBUTE:
            study.attributes.update(line["user_attr"])
        elif code == _TRIAL:
            study.trials.append(_trial(line, len(study.trials)))
            trials.append(study.trials[-1])
        else:
            studies[line["study_id"]] = None
            names.pop(next(name for name, index in names.items() if index == line["study_id"]))
    elif code in (_PARAMETER, _STATE, _ATTRIBUTE) and 0 <= line["trial_id"] < len(trials):
        trial = trials[line["trial_id"]]
        # As Optuna has it, nothing changes a trial that has ended.
        if trial.state in _FINISHED:
            return
        if code == _ATTRIBUTE:
            trial.attributes.update(line["user_attr"])
        elif code == _PARAMETER:
            trial.parameters[line["param_name"]] = line["param_value_internal"], line["distribution"]
        else:
            trial.state = _JOURNAL_STATES[line["state"]]
            trial.values = [float(value) for value in line["values"] or trial.values]
            if trial.state in _FINISHED:
                trial.ended = _local(line["datetime_complete"])


def _trial(line: dict[str, Any], number: int) -> TrialRecord:
    distributions = line.get("distributions", {})
    # Kept once: the trials of a search all choose from the same lists, and theirs are most of a journal.
    chosen = {name: (place, sys.intern(distributions[name])) for name, place in line.get("params", {}).items()}
    ended = line.get("datetime_complete")
    # One that is made with its end has a single value under another name than several.
    values = [line["value"]] if line.get("value") is not None else line.get("values") or []
    return TrialRecord(
        number,
        _JOURNAL_STATES[line.get("state", 0)],
        dict(line.get("user_attrs", {})),
        [float(value) for value in values],
        _local(ended) if ended else None,
        chosen,
    )


def _local(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None)


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

        assert isinstance(storage, FileStorageConfig)
        file = storage.file(directory)
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


#: Optuna's names for trials that have ended, and ours.
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


class Locks(Protocol):
    """Who is at what."""

    def claim(self, number: int) -> bool:
        """Takes a trial; ``False`` where a living worker has it."""


@dataclass(frozen=True)
class Status:
    """What a study holds.

    Args:
        strategy: Its strategy's name.
        candidates: Candidates by how they stand: ``training`` (a living worker is at it), ``waiting`` (begun, and nobody is at it),
            ``complete``, ``pruned`` and ``failed``.
        steps: Training steps so far.
        seconds: Wall seconds of training so far, of all workers together.
        best: The shape, θ apart, of the candidate with the largest W so far, with ``w``; of a study of several objectives the one
            with the smallest ``error``; ``None`` before there is one.
        last: When the last candidate ended, in ISO 8601; ``None`` before.
    """

    strategy: str
    candidates: dict[str, int]
    steps: int
    seconds: float
    best: dict[str, Any] | None
    last: str | None


def study_status(storage: StorageConfig, directory: Path) -> Status:
    """Reads a study.

    Args:
        storage: Where it is kept.
        directory: The search's directory.

    Raises:
        BortError: There is no such study, or its storage cannot be used.
    """
    if isinstance(storage, FileStorageConfig):
        file = storage.file(directory)
        if not file.exists():
            raise BortError(f"There is no study in {file}: nothing was searched there yet.")
        if storage.name == "journal":
            return _of_journal(file, storage.study)
    return _of_tables(storage, directory) or _through_optuna(storage, directory)


def _of_journal(path: Path, name: str) -> Status:
    from bort.search.storage.files import FileLocks

    try:
        locks = FileLocks(path, name)
    except OSError as error:
        raise ConfigurationError("storage.path", path, f"a file that can be written is needed ({error})") from error
    try:
        with locks.exclusive():
            return _standing(read_journal(path).get(name), name, locks)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ConfigurationError("storage.path", path, stumbled(path, error)) from error
    finally:
        locks.close()


def _of_tables(storage: StorageConfig, directory: Path) -> Status | None:
    """Reads a study's tables; ``None`` where they are of another version, damaged or not there at all."""
    try:
        with opened(storage, directory) as (locks, rows), locks.exclusive():
            return _standing(read_tables(rows, storage.study), storage.study, locks)
    except BortError:
        raise
    except Exception:
        # Optuna reads what can be read, and says of the rest what a search would say.
        return None


@quiet("optuna")
def _through_optuna(storage: StorageConfig, directory: Path) -> Status:
    import optuna

    coordination = storage.open(directory)
    try:
        with coordination.exclusive():
            if storage.study not in optuna.study.get_all_study_names(coordination.storage):
                raise _no_study(storage.study)
            study = optuna.load_study(study_name=storage.study, storage=coordination.storage)
            record = StudyRecord(len(study.directions), study.user_attrs)
            for trial in study.get_trials(deepcopy=False):
                values, ended = trial.values or [], trial.datetime_complete
                record.trials.append(TrialRecord(trial.number, trial.state.name, trial.user_attrs, values, ended, trial.params))
            return _standing(record, storage.study, coordination)
    finally:
        coordination.close()


def _standing(study: StudyRecord | None, name: str, locks: Locks) -> Status:
    """Sums a study up, while it is held."""
    if study is None:
        raise _no_study(name)
    trials = [trial for trial in study.trials if CANDIDATE in trial.attributes]
    held = {trial.number for trial in trials if trial.state not in _STATES and not locks.claim(trial.number)}
    return _summed(trials, held, study.attributes.get(IDENTITY, {}), study.objectives == 1)


def _no_study(name: str) -> BortError:
    return BortError(f"The storage holds no study '{name}': nothing was searched under that name yet.")


def _summed(trials: list[TrialRecord], held: set[int], identity: dict[str, Any], single: bool) -> Status:
    candidates = dict.fromkeys(("training", "waiting", *_STATES.values()), 0)
    steps, seconds = 0, 0.0
    for trial in trials:
        candidates[_STATES.get(trial.state, "training" if trial.number in held else "waiting")] += 1
        rungs = [record for key, record in trial.attributes.items() if key.startswith(RUNG)]
        steps += max((record["steps"] for record in rungs), default=0)
        seconds += sum(record.get("seconds", 0.0) for record in rungs)
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    best = max(complete, key=lambda trial: trial.values[0] if single else -trial.values[-1], default=None)
    last = max((trial.ended for trial in trials if trial.ended), default=None)
    return Status(
        str(identity.get("strategy.name", "")),
        candidates,
        steps,
        seconds,
        {**best.chosen(), "w" if single else "error": best.values[-1]} if best is not None else None,
        last.isoformat(timespec="seconds") if last else None,
    )
