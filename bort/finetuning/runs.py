"""Fine-tuning of one model on one task: choose θ on steering examples, train every seed, score on held-out ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bort.errors import RecordError
from bort.events import Observer, Quiet
from bort.files import digest, read_json, write_json, write_text
from bort.finetuning.classifier import save_classifier
from bort.finetuning.config import FinetuningConfig, Impl
from bort.finetuning.decay import decay_warning
from bort.finetuning.once import Diverged, Workspace, model_digest, train_classifier
from bort.finetuning.predictions import lines, predict_from_logits
from bort.finetuning.search import best_theta, derived_seed, search_theta
from bort.tasks.intervals import bootstrap_interval, seed_interval
from bort.tasks.metrics import majority_baseline
from bort.tasks.task import Task


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
) -> dict[str, Any]:
    """Fine-tunes a model and says how good it is, and how sure that is.

    θ and the best epoch are chosen on steering examples; the seeds of the trials are not those of the score; held-out examples are
    looked at once a seed. A trial or a seed that is done is never run again: killed and called anew, the result is the same.

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

    Returns:
        ``metrics`` (name → mean, low, high, median, values, examples), ``seeds``, ``interval``, ``theta``, ``trials``, ``cost``,
        ``model``, ``chosen_seed``, ``baseline``, ``task``, ``pooling``, ``parameters``.

    Raises:
        BortError: A setting cannot be used, training diverged, or the directory holds another run.
    """
    observer, home = observer or Quiet(), Path(directory)
    config.check()
    started = time.perf_counter()
    label = f"fine-tune {name or Path(model_dir).name}"
    mark = _claim(home, model_dir, task, config, seed)
    warning = decay_warning(config, len(task.train))
    if warning:
        observer.warn(warning)
    workspace = Workspace(model_dir, task, config.pooling, impl)

    def trial(settings: FinetuningConfig, number: int) -> dict[str, Any] | None:
        settings.epochs = settings.epochs if config.trial_epochs is None else min(settings.epochs, config.trial_epochs)
        what = f"{label}: trial {number + 1} of {config.trials}"
        try:
            # One seed for all trials: they differ by θ alone.
            run = train_classifier(
                workspace,
                settings,
                seed=derived_seed(seed, "trials"),
                label=what,
                observer=observer,
                prefix=f"trial{number}/",
                heldout=False,
            )
            return run.record
        except Diverged as error:
            observer.warn(str(error))
            return None

    trials: list[dict[str, Any]] = []
    if config.trials and config.search:
        study = f"{name or task.name}-{mark[:12]}"
        trials = search_theta(config, trial, seed=seed, storage=storage or home / "study.journal", name=study, primary=task.primary)
    settings = config.with_theta(best_theta(trials, task.primary)) if trials else config
    records = [_seed(workspace, settings, task, number, seed, home, label, observer) for number in config.seeds]
    chosen = _chosen(records, task.primary)
    predictions = [record.pop("predictions") for record in records]
    metrics: dict[str, Any] = {}
    for metric in task.metrics:
        metrics[metric] = seed_interval([record["heldout"][metric] for record in records], config.confidence)
        metrics[metric]["examples"] = bootstrap_interval(
            task, metric, predictions, resamples=config.resamples, confidence=config.confidence, seed=seed
        )
    primary = metrics[task.primary]
    runs = [*trials, *records]
    return {
        "metrics": metrics,
        "seeds": records,
        "interval": {
            "metric": task.primary,
            "confidence": config.confidence,
            "seeds": {"low": primary["low"], "high": primary["high"]},
            "examples": primary["examples"],
        },
        "theta": settings.theta(),
        "trials": trials,
        "cost": {
            "processor_seconds": sum(run.get("processor_seconds", 0.0) for run in runs),
            "training_seconds": sum(run.get("seconds", 0.0) for run in runs),
            "seconds": time.perf_counter() - started,
        },
        "model": str(home / "model"),
        "predictions": str(home / "predictions.jsonl"),
        "chosen_seed": chosen["seed"],
        "baseline": majority_baseline(task),
        "task": task.record(),
        "pooling": config.pooling,
        "parameters": workspace.parameters,
    }


def _claim(home: Path, model_dir: str | Path, task: Task, config: FinetuningConfig, seed: int) -> str:
    """Marks a directory as this run's; refuses one of another run, whose seeds would be taken for ours."""
    made_from = {
        "model": model_digest(model_dir),
        "task": task.digest,
        "settings": {key: value for key, value in vars(config).items() if key not in ("confidence", "resamples")},
        "seed": seed,
    }
    path = home / "finetuning.json"
    if path.exists():
        there = read_json(path)
        # Compared as it is written, so that tuples and lists are the same.
        differing = [key for key, value in made_from.items() if digest(there.get(key)) != digest(value)]
        if differing:
            raise RecordError(f"{home} holds the fine-tuning of another {differing[0]}; remove it or choose another directory.")
    else:
        write_json(path, made_from)
    return digest(made_from)


def _seed(
    workspace: Workspace,
    settings: FinetuningConfig,
    task: Task,
    number: int,
    seed: int,
    home: Path,
    label: str,
    observer: Observer,
) -> dict[str, Any]:
    """Returns the record of one seed, with its held-out predictions; trains only where it is not there yet.

    The model is written before the record: killed between the two, the seed is trained again and writes the same model.
    """
    path = home / "seeds" / f"{number}.json"
    if path.exists():
        done: dict[str, Any] = read_json(path)
        return done
    place = settings.seeds.index(number)
    what = f"{label}: seed {place + 1} of {len(settings.seeds)}"
    trained = train_classifier(
        workspace,
        settings,
        seed=derived_seed(seed, "seed", number),
        label=what,
        observer=observer,
        prefix=f"seed{number}/",
    )
    assert trained.logits is not None
    record = {**trained.record, "seed": number, "predictions": predict_from_logits(task, trained.logits)}
    earlier = [read_json(home / "seeds" / f"{one}.json") for one in settings.seeds[:place]]
    if _chosen([*earlier, record], task.primary) is record:
        save_classifier(trained.model, workspace.tokenizer, home / "model")
        write_text(home / "predictions.jsonl", lines(task, trained.logits))
    write_json(path, record)
    return record


def _chosen(records: Sequence[dict[str, Any]], primary: str) -> dict[str, Any]:
    """Returns the record with the best steering score; the first of equals."""
    return max(records, key=lambda record: float(record["steering"][primary]))
