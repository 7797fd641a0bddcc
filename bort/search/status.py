"""How far a study is: read from its storage alone, so that it can be asked while workers are at it, and without what they need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.search.config import JournalStorageConfig, SqliteStorageConfig, StorageConfig
from bort.search.coordination import open_coordination, storage_file
from bort.search.ledger import CANDIDATE, IDENTITY, RUNG


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
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if isinstance(storage, JournalStorageConfig | SqliteStorageConfig):
        file = storage_file(storage, directory)
        if not file.exists():
            raise BortError(f"There is no study in {file}: nothing was searched there yet.")
    coordination = open_coordination(storage, directory)
    try:
        with coordination.exclusive():
            if storage.study not in optuna.study.get_all_study_names(coordination.storage):
                raise BortError(f"The storage holds no study '{storage.study}': nothing was searched under that name yet.")
            study = optuna.load_study(study_name=storage.study, storage=coordination.storage)
            trials = [trial for trial in study.get_trials(deepcopy=False) if CANDIDATE in trial.user_attrs]
            held = {trial.number for trial in trials if not trial.state.is_finished() and not coordination.claim(trial.number)}
            identity, single = study.user_attrs.get(IDENTITY, {}), len(study.directions) == 1
    finally:
        coordination.close()
    return _summed(trials, held, identity, single)


def _summed(trials: list[Any], held: set[int], identity: dict[str, Any], single: bool) -> Status:
    candidates = dict.fromkeys(("training", "waiting", "complete", "pruned", "failed"), 0)
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    steps, seconds = 0, 0.0
    for trial in trials:
        candidates[states.get(trial.state.name, "training" if trial.number in held else "waiting")] += 1
        rungs = [record for key, record in trial.user_attrs.items() if key.startswith(RUNG)]
        steps += max((record["steps"] for record in rungs), default=0)
        seconds += sum(record.get("seconds", 0.0) for record in rungs)
    ended = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = max(ended, key=lambda trial: trial.values[0] if single else -trial.values[-1], default=None)
    last = max((trial.datetime_complete for trial in trials if trial.datetime_complete), default=None)
    return Status(
        str(identity.get("strategy.name", "")),
        candidates,
        steps,
        seconds,
        {**best.params, "w" if single else "error": best.values[-1]} if best is not None else None,
        last.isoformat(timespec="seconds") if last else None,
    )
