"""Progress of a study, read from its storage alone: it can be shown while workers run, and without what they need."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import BortError
from bort.quiet import quiet
from bort.search.storage.base import CANDIDATE, IDENTITY, RUNG, Coordination
from bort.search.storage.config import FileStorageConfig, StorageConfig

if TYPE_CHECKING:
    from optuna.study import Study

#: Optuna's names of the states of ended trials, and ours.
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class Status:
    """Progress of a study.

    Args:
        strategy: Its strategy's name.
        candidates: Candidates by state: ``training`` (claimed by a living worker), ``waiting`` (started, then orphaned),
            ``complete``, ``pruned`` and ``failed``.
        steps: Training steps so far.
        seconds: Wall-clock seconds of training so far, of all workers together.
        best: The shape (and the index of θ) of the candidate with the largest W so far, with ``w``; of a study of several
            objectives the one with the smallest ``error``; ``None`` before there is one.
        last: When the last candidate ended, in ISO 8601; ``None`` before.
    """

    strategy: str
    candidates: dict[str, int]
    steps: int
    seconds: float
    best: dict[str, Any] | None
    last: str | None


def study_status(storage: StorageConfig, directory: Path) -> Status:
    """Read the progress of a study; nothing is written.

    Args:
        storage: Settings of its storage.
        directory: The search's directory.

    Raises:
        BortError: There is no such study, or its storage cannot be used.
    """
    if isinstance(storage, FileStorageConfig) and not (file := storage.file(directory)).exists():
        raise BortError(f"There is no study in {file}: nothing was searched there yet.")
    import optuna

    with quiet("optuna"), closing(storage.open_to_read(directory)) as coordination, coordination.exclusive():
        if storage.study not in optuna.study.get_all_study_names(coordination.storage):
            raise BortError(f"The storage holds no study '{storage.study}': nothing was searched under that name yet.")
        return _status(optuna.load_study(study_name=storage.study, storage=coordination.storage), coordination)


def _status(study: Study, coordination: Coordination) -> Status:
    """Return the progress of a study while its lock is held."""
    candidates = dict.fromkeys(("training", "waiting", *_STATES.values()), 0)
    trials = [trial for trial in study.get_trials(deepcopy=False) if CANDIDATE in trial.user_attrs]
    steps, seconds = 0, 0.0
    for trial in trials:
        state = _STATES.get(trial.state.name) or ("waiting" if coordination.claim(trial.number) else "training")
        candidates[state] += 1
        rungs = [record for key, record in trial.user_attrs.items() if key.startswith(RUNG)]
        steps += max((record["steps"] for record in rungs), default=0)
        seconds += sum(record.get("seconds", 0.0) for record in rungs)
    single = len(study.directions) == 1
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = max(complete, key=lambda trial: trial.values[0] if single else -trial.values[-1], default=None)
    last = max((trial.datetime_complete for trial in trials if trial.datetime_complete), default=None)
    return Status(
        str(study.user_attrs.get(IDENTITY, {}).get("strategy.name", "")),
        candidates,
        steps,
        seconds,
        {**best.params, "w" if single else "error": best.values[-1]} if best is not None else None,
        last.isoformat(timespec="seconds") if last else None,
    )
