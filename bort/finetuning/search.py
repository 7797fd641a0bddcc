"""The search over Θ: an Optuna study whose proposals are functions of the seed and the trials of earlier rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bort.errors import BortError, ConfigurationError
from bort.files import drop_torn_line, refuse_link
from bort.finetuning.config import FinetuningConfig
from bort.locks import exclusive
from bort.optuna_storage import name_objectives, open_database, stumbled
from bort.quiet import quiet
from bort.randomness import named_seed
from bort.redaction import redact
from bort.settings import check_value

_FLOATS = ("learning_rate", "weight_decay", "warmup", "dropout", "head_rate", "layer_rate")
#: Steering score of a trial whose training diverged: below the range of every metric.
_DIVERGED = -2.0
#: Finished trials before one is pruned for being below their median, and before proposals follow their scores.
_STARTUP = 4
#: Seconds between looks at the trials that other workers are training.
_WAIT = 0.5


@dataclass
class Trial:
    """One θ to try.

    Args:
        number: Of the trial, from 0.
        theta: Its values of Θ.
        config: The settings with θ in place.
    """

    number: int
    theta: dict[str, Any]
    config: FinetuningConfig
    _proposal: Any
    _reported: dict[int, float] = field(default_factory=dict)

    def should_prune(self, epoch: int, steering: float) -> bool:
        """Record the steering score of an epoch and return whether it is below the median of earlier rounds."""
        self._reported[epoch] = steering
        self._proposal.report(steering, epoch)
        return bool(self._proposal.should_prune())

    def finished(self, record: dict[str, Any], value: float) -> Any:
        """Return Optuna's trial of this one, for the shared study."""
        import optuna

        return optuna.trial.create_trial(
            state=optuna.trial.TrialState.PRUNED if record["pruned"] else optuna.trial.TrialState.COMPLETE,
            value=value,
            params=self._proposal.params,
            distributions=self._proposal.distributions,
            intermediate_values=self._reported,
            user_attrs={"record": record},
        )


#: Trains a trial and returns the training's record; ``None`` if it diverged.
Train = Callable[[Trial], dict[str, Any] | None]


@quiet("optuna")
def search_theta(
    config: FinetuningConfig,
    train: Train,
    *,
    seed: int,
    storage: str | Path,
    locks: str | Path,
    name: str,
    primary: str,
) -> list[dict[str, Any]]:
    """Try ``config.trials`` settings of Θ and return their records; trials that are in the storage are not repeated.

    Trials are proposed in rounds of ``config.round``. The proposals of a round, and which of its trials are pruned, depend on the
    trials of earlier rounds and on the seed alone. Any number of workers can therefore share a search, be killed and come back: it
    ends as if one had done it without interruption. The first trial is the configuration's own θ if Θ contains it, so that the
    search is never behind the defaults on steering examples.

    Args:
        config: Θ under ``search``, defaults elsewhere.
        train: Trains one trial.
        seed: Of the study.
        storage: A journal file, or the URL of a database that Optuna supports.
        locks: A folder that all workers share; the system releases the lock of a worker that dies.
        name: The study's name in the storage.
        primary: The metric that steers.

    Returns:
        One record a trial: ``number``, ``theta``, ``diverged``, ``pruned``, ``steering``, ``epochs``, ``seconds``,
        ``processor_seconds``.

    Raises:
        ConfigurationError: The storage cannot be read: damaged, or of another version of Optuna.
        BortError: Every trial diverged, or the storage holds another study of that name.
    """
    with exclusive(locks, name=".study"):
        study = _study(storage, name)
        mark = f"{seed} {sorted(config.search.items())!r} {config.theta()!r} {config.round} {config.pruning}"
        if study.user_attrs.get("mark", mark) != mark:
            raise BortError(f"{storage} holds the search '{name}' over another Θ; remove it or choose another directory.")
        study.set_user_attr("mark", mark)
        name_objectives(study, [f"steering {primary}"])
    first = 0
    while first < config.trials:
        last = min(first + config.round, config.trials)
        earlier = [trial for number, trial in sorted(_finished(study).items()) if number < first]
        trials = _propose(config, earlier, range(first, last), seed)
        while any(trial.number not in _finished(study) for trial in trials):
            if not any(_try(study, trial, train, locks, primary) for trial in trials):
                time.sleep(_WAIT)
        first = last
    records: list[dict[str, Any]] = [trial.user_attrs["record"] for _, trial in sorted(_finished(study).items())]
    if all(record["diverged"] for record in records):
        raise BortError("Training diverged with every θ of finetuning.search; offer smaller learning rates.")
    return records


def _finished(study: Any) -> dict[int, Any]:
    return {trial.user_attrs["record"]["number"]: trial for trial in study.get_trials(deepcopy=False)}


def _propose(config: FinetuningConfig, earlier: Sequence[Any], numbers: range, seed: int) -> list[Trial]:
    """Return the trials of a round, from a study in memory that holds the trials of earlier rounds and no others."""
    import optuna

    pruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP) if config.pruning else optuna.pruners.NopPruner()
    sampler = optuna.samplers.TPESampler(seed=named_seed(seed, "theta", numbers.start) % (1 << 32), n_startup_trials=_STARTUP)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.add_trials(earlier)
    own = {key: getattr(config, key) for key in config.search}
    if numbers.start == 0 and _contains(config.search, own):
        study.enqueue_trial(own)
    trials = []
    for number in numbers:
        proposal = study.ask()
        theta = {key: _suggest(proposal, key, wanted) for key, wanted in config.search.items()}
        trials.append(Trial(number, theta, config.with_theta(theta), proposal))
    return trials


def _try(study: Any, trial: Trial, train: Train, locks: str | Path, primary: str) -> bool:
    """Train a trial that is neither finished nor claimed by another worker; return whether it was trained."""
    with exclusive(locks, wait=False, name=f".trial{trial.number}") as held:
        if not held or trial.number in _finished(study):
            return False
        record = train(trial)
        pruned = bool(record and record["pruned"])
        kept = {key: record[key] for key in ("steering", "epochs", "best_epoch", "seconds", "processor_seconds")} if record else {}
        shared = {"number": trial.number, "theta": trial.theta, "diverged": record is None, "pruned": pruned, **kept}
        study.add_trial(trial.finished(shared, record["steering"][primary] if record else _DIVERGED))
        return True


def best_theta(records: list[dict[str, Any]], primary: str) -> dict[str, Any]:
    """Return the θ with the best steering score among the trials that were finished; the earlier one of equals."""
    finished = [record for record in records if not record["diverged"] and not record["pruned"]]
    theta: dict[str, Any] = max(finished, key=lambda record: (record["steering"][primary], -record["number"]))["theta"]
    return theta


def _study(storage: str | Path, name: str) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" in str(storage):
        kept = open_database(str(storage), key="storage", shown=redact(str(storage)))
        return optuna.create_study(storage=kept, study_name=name, direction="maximize", load_if_exists=True)
    path = Path(storage)
    refuse_link(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        journal = JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))
        return optuna.create_study(storage=journal, study_name=name, direction="maximize", load_if_exists=True)
    except OSError:
        raise
    except Exception as error:
        raise ConfigurationError("storage", path, stumbled(path, error)) from error


class _JournalLock:
    """The lock of a journal, as Optuna uses it: a process that dies releases it, and a torn line that it left is cut off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = ExitStack()

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._held.enter_context(exclusive(self._path.parent, name=f".{self._path.name}.lock"))
        drop_torn_line(self._path)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._held.close()


def _suggest(trial: Any, name: str, wanted: Any) -> Any:
    if not isinstance(wanted, Mapping):
        return trial.suggest_categorical(name, list(wanted))
    suggest = trial.suggest_float if name in _FLOATS else trial.suggest_int
    value = suggest(name, wanted["low"], wanted["high"], log=bool(wanted.get("log", False)))
    check_value(FinetuningConfig, name, value, f"finetuning.search.{name}")
    return value


def _contains(search: Mapping[str, Any], theta: Mapping[str, Any]) -> bool:
    for name, wanted in search.items():
        value = theta[name]
        if value is None or (
            value not in wanted if not isinstance(wanted, Mapping) else not wanted["low"] <= value <= wanted["high"]
        ):
            return False
    return bool(search)
