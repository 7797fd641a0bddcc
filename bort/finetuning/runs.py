"""Fine-tuning of one model on one task: choose θ on steering examples, train every seed, score on held-out ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from bort.files import atomic_path, read_json, write_json, write_text
from bort.finetuning.config import FinetuningConfig, Impl
from bort.finetuning.model import save_classifier
from bort.finetuning.module import decay_warning
from bort.finetuning.scoring import lines, predict_from_logits
from bort.finetuning.search import best_theta, search_theta
from bort.finetuning.train import Diverged, model_digest, teacher_of, train_classifier
from bort.finetuning.workspace import Workspace
from bort.locks import exclusive
from bort.observer import Observer, Quiet
from bort.randomness import named_seed
from bort.record import bind
from bort.settings import check_settings
from bort.tasks.intervals import bootstrap_interval, seed_interval
from bort.tasks.metrics import majority_baseline
from bort.tasks.task import Task


def over_seeds(task: Task, config: FinetuningConfig, records: list[dict[str, Any]], *, home: Path, seed: int) -> dict[str, Any]:
    """Returns held-out metrics with their intervals, the seeds behind them, and where model and predictions lie.

    Args:
        task: The task.
        config: Confidence, resamples and pooling.
        records: One for each seed, with the figures of ``heldout``; their ``predictions`` are taken out.
        home: The run's directory.
        seed: Of the bootstrap.
    """
    predictions = [record.pop("predictions") for record in records]
    metrics: dict[str, Any] = {}
    for metric in task.metrics:
        metrics[metric] = seed_interval([record["heldout"][metric] for record in records], config.confidence)
        metrics[metric]["examples"] = bootstrap_interval(
            task, metric, predictions, resamples=config.resamples, confidence=config.confidence, seed=seed
        )
    primary = metrics[task.primary]
    return {
        "metrics": metrics,
        "seeds": records,
        "interval": {
            "metric": task.primary,
            "confidence": config.confidence,
            "seeds": {"low": primary["low"], "high": primary["high"]},
            "examples": primary["examples"],
        },
        "model": str(home / "model"),
        "predictions": str(home / "predictions.jsonl"),
        "baseline": majority_baseline(task),
        "task": task.record(),
        "pooling": config.pooling,
    }


#: Opens the observer of one trial.
Watch = Callable[[int, Mapping[str, Any]], AbstractContextManager[Observer]]


def finetune(
    model_dir: str | Path,
    task: Task,
    config: FinetuningConfig,
    *,
    directory: str | Path,
    seed: int = 0,
    impl: Impl | None = None,
    observer: Observer | None = None,
    storage: str | Path | None = None,
    name: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Fine-tunes a model and says how good it is, and how sure that is.

    θ and the best epoch are chosen on steering examples; the seeds of the trials are not those of the score; held-out examples are
    looked at once a seed. A trial or a seed that is done is never run again: killed and called anew, the result is the same.
    Several processes may be called with the same arguments: they share the trials (see ``config.round``) and the seeds.

    Args:
        model_dir: Any encoder of transformers.
        task: The task.
        config: θ, Θ, seeds; take ``config.for_model(role)`` first where ``models`` is used.
        directory: Gets ``model/`` (of the seed that is best on steering), ``predictions.jsonl`` (its held-out predictions),
            ``seeds/`` and the study's journal.
        seed: Mixed into every other seed.
        impl: Device, precision, threads.
        observer: Told of progress, metrics and warnings.
        storage: A journal file or database URL for the study; a journal in ``directory`` where absent.
        name: What progress calls the model, and the study where it lies in a shared storage.
        watch: Gives the observer of one trial, from its number and θ, for as long as it runs; where absent, ``observer`` is told
            of all, each trial's curves under ``trial<number>/``.

    Returns:
        ``metrics`` (name → mean, low, high, median, values, examples), ``seeds``, ``interval``, ``theta``, ``trials``, ``cost``,
        ``model``, ``chosen_seed``, ``baseline``, ``task``, ``pooling``, ``parameters``.

    Raises:
        BortError: A setting cannot be used, training diverged, or the directory holds another run.
    """
    observer, home = observer or Quiet(), Path(directory)
    check_settings(config, "finetuning")
    started = time.perf_counter()
    label = f"fine-tune {name or Path(model_dir).name}"
    mark = _claim(home, model_dir, task, config, seed)
    warning = decay_warning(config, len(task.train))
    if warning:
        observer.warn(warning)
    workspace = Workspace(model_dir, task, config.pooling, impl, teacher_of(config, task, impl, observer))
    if watch is None:
        watch = lambda number, theta: nullcontext(_Prefixed(observer, f"trial{number}/"))  # noqa: E731
    opened = watch

    def trial(settings: FinetuningConfig, number: int, report: Callable[[int, float], bool]) -> dict[str, Any] | None:
        settings.epochs = settings.epochs if config.trial_epochs is None else min(settings.epochs, config.trial_epochs)
        what = f"{label}: trial {number + 1} of {config.trials}"
        with opened(number, settings.theta()) as told:
            try:
                # One seed for all trials: they differ by θ alone.
                run = train_classifier(
                    workspace,
                    settings,
                    seed=named_seed(seed, "trials"),
                    label=what,
                    observer=told,
                    heldout=False,
                    hopeless=report,
                )
                return run.record
            except Diverged as error:
                observer.warn(str(error))
                return None

    trials: list[dict[str, Any]] = []
    if config.trials and config.search:
        study = f"{name or task.name}-{mark[:12]}"
        journal, locks = storage or home / "study.journal", home / "locks"
        trials = search_theta(config, trial, seed=seed, storage=journal, locks=locks, name=study, primary=task.primary)
    settings = config.with_theta(best_theta(trials, task.primary)) if trials else config
    records = _all_seeds(workspace, settings, task, seed, home, label, observer)
    chosen = _chosen(records, task.primary)
    _keep(home, chosen["seed"], config.seeds)
    runs = [*trials, *records]
    return {
        **over_seeds(task, config, records, home=home, seed=seed),
        "theta": settings.theta(),
        "trials": trials,
        "cost": {
            "processor_seconds": sum(run.get("processor_seconds", 0.0) for run in runs),
            "training_seconds": sum(run.get("seconds", 0.0) for run in runs),
            "seconds": time.perf_counter() - started,
        },
        "chosen_seed": chosen["seed"],
        "parameters": workspace.parameters,
    }


def _claim(home: Path, model_dir: str | Path, task: Task, config: FinetuningConfig, seed: int) -> str:
    """Marks a directory as this run's; refuses one of another run, whose seeds would be taken for ours."""
    made_from = {
        "model": model_digest(model_dir),
        "task": task.digest,
        "settings": {key: value for key, value in vars(config).items() if key not in ("confidence", "resamples", "teacher")},
        "seed": seed,
        "teacher": model_digest(config.teacher) if config.teacher else None,
    }
    return bind(home, "finetuning", made_from)


def _all_seeds(
    workspace: Workspace, settings: FinetuningConfig, task: Task, seed: int, home: Path, label: str, observer: Observer
) -> list[dict[str, Any]]:
    """Returns the record of every seed, in order; trains those that are neither there nor in another process's hands."""
    place = home / "seeds"
    while missing := [number for number in settings.seeds if not (place / f"{number}.json").exists()]:
        trained = False
        for number in missing:
            with exclusive(place, wait=False, name=f".{number}") as held:
                if held and not (place / f"{number}.json").exists():
                    _seed(workspace, settings, task, number, seed, place, label, observer)
                    trained = True
        if not trained:
            time.sleep(0.5)
    return [read_json(place / f"{number}.json") for number in settings.seeds]


def _seed(
    workspace: Workspace,
    settings: FinetuningConfig,
    task: Task,
    number: int,
    seed: int,
    place: Path,
    label: str,
    observer: Observer,
) -> None:
    """Trains one seed and writes its model, its predictions and, last, its record: killed before that, it is trained again."""
    trained = train_classifier(
        workspace,
        settings,
        seed=named_seed(seed, "seed", number),
        label=f"{label}: seed {settings.seeds.index(number) + 1} of {len(settings.seeds)}",
        observer=observer,
        prefix=f"seed{number}/",
    )
    assert trained.logits is not None
    save_classifier(trained.model, workspace.tokenizer, place / str(number) / "model")
    write_text(place / str(number) / "predictions.jsonl", lines(task, trained.logits))
    write_json(
        place / f"{number}.json",
        {**trained.record, "seed": number, "predictions": predict_from_logits(task, trained.logits)},
    )


def _keep(home: Path, chosen: int, seeds: Sequence[int]) -> None:
    """Makes the chosen seed's model the run's own and removes the models of the seeds; done twice, it is done."""
    source = home / "seeds" / str(chosen)
    with exclusive(home, name=".keep"):
        if (source / "predictions.jsonl").exists():
            if (source / "model").is_dir():
                with atomic_path(home / "model") as temporary:
                    shutil.copytree(source / "model", temporary)
            write_text(home / "predictions.jsonl", (source / "predictions.jsonl").read_text(encoding="utf-8"))
        for number in seeds:
            # The model first: while the predictions are there, a run that was killed here finds the rest of its work.
            shutil.rmtree(home / "seeds" / str(number) / "model", ignore_errors=True)
            shutil.rmtree(home / "seeds" / str(number), ignore_errors=True)


class _Prefixed:
    """Hands everything on, with a prefix before the names of metrics."""

    def __init__(self, onward: Observer, prefix: str) -> None:
        self._prefix = prefix
        self.progress, self.warn, self._metrics = onward.progress, onward.warn, onward.metrics

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._metrics({self._prefix + name: value for name, value in values.items()}, step)


def _chosen(records: Sequence[dict[str, Any]], primary: str) -> dict[str, Any]:
    """Returns the record with the best steering score; the first of equals."""
    return max(records, key=lambda record: float(record["steering"][primary]))
