"""The search over Θ: an Optuna study whose every proposal is a function of (seed, number of finished trials)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.finetuning.config import FinetuningConfig, check_value

_FLOATS = ("learning_rate", "weight_decay", "warmup", "dropout", "head_rate")
#: Steering score of a trial whose training diverged: below whatever a metric can give.
_DIVERGED = -2.0


def derived_seed(*parts: object) -> int:
    """Returns a 63-bit seed that is a function of its parts."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def search_theta(
    config: FinetuningConfig,
    run: Callable[[FinetuningConfig, int], dict[str, Any] | None],
    *,
    seed: int,
    storage: str | Path,
    name: str,
    primary: str,
) -> list[dict[str, Any]]:
    """Tries ``config.trials`` settings of Θ and returns their records; those that the storage has already are not run again.

    A trial that was being run when the process died is marked as failed and proposed again, because proposals depend on the
    finished ones alone: the search ends as if it had never been interrupted. The first trial is the configuration's own θ where
    Θ has it, so that the search is never behind the defaults on steering examples.

    Args:
        config: Θ under ``search``, defaults elsewhere.
        run: Trains with the settings and the trial's number, returns a run's record, or ``None`` where training diverged.
        seed: Of the study.
        storage: A journal file, or the URL of a database that Optuna knows.
        name: The study's name in the storage.
        primary: The metric that steers.

    Returns:
        One record a trial: ``number``, ``theta``, ``steering``, ``epochs``, ``seconds``, ``processor_seconds``.

    Raises:
        BortError: Every trial diverged, or the storage holds another study of that name.
    """
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mark = f"{seed} {sorted(config.search.items())!r} {config.theta()!r}"
    study = optuna.create_study(storage=_storage(storage), study_name=name, direction="maximize", load_if_exists=True)
    if study.user_attrs.setdefault("mark", mark) != mark:
        raise BortError(f"{storage} holds the search '{name}' over another Θ; remove it or choose another directory.")
    study.set_user_attr("mark", mark)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    while (done := len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))) < config.trials:
        study.sampler = optuna.samplers.TPESampler(seed=derived_seed(seed, "theta", done) % (1 << 32), n_startup_trials=4)
        own = {key: getattr(config, key) for key in config.search}
        if done == 0 and _contains(config.search, own) and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(own)
        trial = study.ask()
        theta = {key: _suggest(trial, key, wanted) for key, wanted in config.search.items()}
        record = run(config.with_theta(theta), done)
        steering = record["steering"][primary] if record else _DIVERGED
        kept = {key: record[key] for key in ("steering", "epochs", "best_epoch", "seconds", "processor_seconds")} if record else {}
        trial.set_user_attr("record", {"number": done, "theta": theta, "diverged": record is None, **kept})
        study.tell(trial, steering)
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    records: list[dict[str, Any]] = [trial.user_attrs["record"] for trial in finished]
    if all(record["diverged"] for record in records):
        raise BortError("Training diverged with every θ of finetuning.search; offer smaller learning rates.")
    return records


def best_theta(records: list[dict[str, Any]], primary: str) -> dict[str, Any]:
    """Returns the θ with the best steering score; the earlier one of equals."""
    whole = [record for record in records if not record["diverged"]]
    theta: dict[str, Any] = max(whole, key=lambda record: (record["steering"][primary], -record["number"]))["theta"]
    return theta


def _storage(storage: str | Path) -> Any:
    if "://" in str(storage):
        return str(storage)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    # The lock is held for milliseconds; one that is seconds old belongs to a process that was killed.
    lock = JournalFileSymlinkLock(str(storage), grace_period=5)
    return JournalStorage(JournalFileBackend(str(storage), lock_obj=lock))


def _suggest(trial: Any, name: str, wanted: Any) -> Any:
    if not isinstance(wanted, Mapping):
        return trial.suggest_categorical(name, list(wanted))
    suggest = trial.suggest_float if name in _FLOATS else trial.suggest_int
    value = suggest(name, wanted["low"], wanted["high"], log=bool(wanted.get("log", False)))
    check_value(f"finetuning.search.{name}", name, value)
    return value


def _contains(search: Mapping[str, Any], theta: Mapping[str, Any]) -> bool:
    for name, wanted in search.items():
        value = theta[name]
        if value is None or (
            value not in wanted if not isinstance(wanted, Mapping) else not wanted["low"] <= value <= wanted["high"]
        ):
            return False
    return bool(search)
