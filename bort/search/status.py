"""How far a study is: read from its storage alone, so that it can be asked while workers are at it, and without what they need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bort.errors import BortError, ConfigurationError
from bort.search.config import JournalStorageConfig, SqliteStorageConfig, StorageConfig
from bort.search.coordination import CANDIDATE, IDENTITY, RUNG, open_coordination, storage_file
from bort.search.journal_reading import StudyRecord, TrialRecord, read_journal
from bort.studies import stumbled

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
    if isinstance(storage, JournalStorageConfig | SqliteStorageConfig):
        file = storage_file(storage, directory)
        if not file.exists():
            raise BortError(f"There is no study in {file}: nothing was searched there yet.")
        if storage.name == "journal":
            return _of_journal(file, storage.study)
    return _of_tables(storage, directory) or _through_optuna(storage, directory)


def _of_journal(path: Path, name: str) -> Status:
    from bort.search.file_coordination import FileLocks

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
    from bort.search.database_reading import opened, read_tables

    try:
        with opened(storage, directory) as (locks, rows), locks.exclusive():
            return _standing(read_tables(rows, storage.study), storage.study, locks)
    except BortError:
        raise
    except Exception:
        # Optuna reads what can be read, and says of the rest what a search would say.
        return None


def _through_optuna(storage: StorageConfig, directory: Path) -> Status:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    coordination = open_coordination(storage, directory)
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
