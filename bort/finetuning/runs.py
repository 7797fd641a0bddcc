"""Fine-tuning of one model on one task: choose θ on steering examples, train every seed, score on held-out ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bort.files import atomic_path, read_json, write_json, write_text
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.decay import decay_warning
from bort.finetuning.model import save_classifier
from bort.finetuning.module import Reporting
from bort.finetuning.scoring import lines, predict_from_logits
from bort.finetuning.search import Trial, best_theta, search_theta
from bort.finetuning.setup import FinetuningSetup
from bort.finetuning.train import DivergenceError, train_classifier
from bort.finetuning.workspace import Workspace
from bort.locks import exclusive
from bort.observer import Observer, Quiet
from bort.randomness import named_seed
from bort.record import bind
from bort.tasks.intervals import bootstrap_interval, seed_interval
from bort.tasks.metrics import majority_baseline

#: Opens the observer of one trial, from its number and θ.
Watch = Callable[[int, Mapping[str, Any]], AbstractContextManager[Observer]]


def finetune(
    setup: FinetuningSetup,
    directory: str | Path,
    *,
    observer: Observer | None = None,
    storage: str | Path | None = None,
    name: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Fine-tune a model with several seeds and score it with intervals.

    θ and the best epoch are chosen on steering examples; the seeds of the trials are not those of the score; held-out examples are
    scored once a seed. A finished trial or seed is never repeated: re-run the same command to resume, with the same result. Several
    processes may be called with the same arguments: they share the trials (see ``config.round``) and the seeds.

    Args:
        setup: Model, task and settings.
        directory: Receives ``model/`` (of the seed that is best on steering), ``predictions.jsonl`` (its held-out predictions),
            ``seeds/`` and the study's journal.
        observer: Receives progress, metrics and warnings.
        storage: A journal file or database URL for the study; a journal in ``directory`` if ``None``.
        name: Name of the model in progress, and of the study in a shared storage.
        watch: Opens the observer of one trial for as long as it runs; without it ``observer`` receives the curves of all trials,
            with ``trial<number>/`` before the names.

    Returns:
        ``metrics`` (name → mean, low, high, median, values, examples), ``seeds``, ``interval``, ``theta``, ``trials``, ``cost``,
        ``model``, ``chosen_seed``, ``baseline``, ``task``, ``pooling``, ``parameters``.

    Raises:
        BortError: A setting is invalid, training diverged, or the directory holds another run.
    """
    observer, home, config, task = observer or Quiet(), Path(directory), setup.config, setup.task
    setup.check()
    started = time.perf_counter()
    mark = bind(home, "finetuning", setup.identity())
    warning = decay_warning(config, len(task.train))
    if warning:
        observer.warn(warning)
    run = FinetuningRun(
        setup, Workspace(setup, observer), home, observer, label=f"fine-tune {name or Path(setup.model_dir).name}", watch=watch
    )
    trials: list[dict[str, Any]] = []
    if config.trials and config.search:
        trials = search_theta(
            config,
            run.train_trial,
            seed=setup.seed,
            storage=storage or home / "study.journal",
            locks=home / "locks",
            name=f"{name or task.name}-{mark[:12]}",
            primary=task.primary,
        )
    settings = config.with_theta(best_theta(trials, task.primary)) if trials else config
    records = run.train_seeds(settings)
    chosen = max(records, key=lambda record: float(record["steering"][task.primary]))
    keep_seed(home, chosen["seed"], config.seeds)
    trainings = [*trials, *records]
    return {
        **over_seeds(setup, records, home),
        "theta": settings.theta(),
        "trials": trials,
        "cost": {
            "processor_seconds": sum(training.get("processor_seconds", 0.0) for training in trainings),
            "training_seconds": sum(training.get("seconds", 0.0) for training in trainings),
            "seconds": time.perf_counter() - started,
        },
        "chosen_seed": chosen["seed"],
        "parameters": run.workspace.parameters,
    }


def over_seeds(setup: FinetuningSetup, records: list[dict[str, Any]], home: Path) -> dict[str, Any]:
    """Return held-out metrics with their intervals, the seeds behind them, and the places of model and predictions.

    Args:
        setup: Task and settings.
        records: One for each seed, with the scores of ``heldout``; their ``predictions`` are removed.
        home: The run's directory.
    """
    task, config = setup.task, setup.config
    predictions = [record.pop("predictions") for record in records]
    metrics: dict[str, Any] = {}
    for metric in task.metrics:
        metrics[metric] = seed_interval([record["heldout"][metric] for record in records], config.confidence)
        metrics[metric]["examples"] = bootstrap_interval(
            task, metric, predictions, resamples=config.resamples, confidence=config.confidence, seed=setup.seed
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


@dataclass(frozen=True)
class FinetuningRun:
    """The trainings of one call of :func:`finetune`: the trials of its search and its seeds.

    Args:
        setup: Model, task and settings.
        workspace: Of the setup.
        home: The run's directory.
        observer: Receives progress, metrics and warnings.
        label: First part of the progress labels.
        watch: Opens the observer of a trial.
    """

    setup: FinetuningSetup
    workspace: Workspace
    home: Path
    observer: Observer
    label: str
    watch: Watch | None = None

    def train_trial(self, trial: Trial) -> dict[str, Any] | None:
        """Train a trial without its held-out examples and return its record; ``None`` if it diverged."""
        config, limit = trial.config, self.setup.config.trial_epochs
        config = replace(config, epochs=config.epochs if limit is None else min(config.epochs, limit))
        label = f"{self.label}: trial {trial.number + 1} of {self.setup.config.trials}"
        with self._watched(trial.number, config.theta()) as observer:
            # One seed for all trials: they differ by θ alone.
            seed = named_seed(self.setup.seed, "trials")
            try:
                reporting = Reporting(label, observer, trial)
                return train_classifier(self.workspace, config, seed, reporting, heldout=False).record
            except DivergenceError as error:
                self.observer.warn(str(error))
                return None

    def _watched(self, number: int, theta: Mapping[str, Any]) -> AbstractContextManager[Observer]:
        if self.watch is not None:
            return self.watch(number, theta)
        return nullcontext(PrefixedObserver(self.observer, f"trial{number}/"))

    def train_seeds(self, config: FinetuningConfig) -> list[dict[str, Any]]:
        """Return the record of every seed, in order; train those that are neither finished nor claimed by another process."""
        folder = self.home / "seeds"
        while missing := [number for number in config.seeds if not (folder / f"{number}.json").exists()]:
            trained = False
            for number in missing:
                with exclusive(folder, wait=False, name=f".{number}") as held:
                    if held and not (folder / f"{number}.json").exists():
                        self.train_seed(config, number)
                        trained = True
            if not trained:
                time.sleep(0.5)
        return [read_json(folder / f"{number}.json") for number in config.seeds]

    def train_seed(self, config: FinetuningConfig, number: int) -> None:
        """Train one seed and write its model, its predictions and, last, its record: killed before that, it is trained again."""
        label = f"{self.label}: seed {config.seeds.index(number) + 1} of {len(config.seeds)}"
        reporting = Reporting(label, PrefixedObserver(self.observer, f"seed{number}/"))
        result = train_classifier(self.workspace, config, named_seed(self.setup.seed, "seed", number), reporting)
        assert result.logits is not None
        folder = self.home / "seeds"
        save_classifier(result.model, self.workspace.tokenizer, folder / str(number) / "model")
        write_text(folder / str(number) / "predictions.jsonl", lines(self.setup.task, result.logits))
        predictions = predict_from_logits(self.setup.task, result.logits)
        write_json(folder / f"{number}.json", {**result.record, "seed": number, "predictions": predictions})


def keep_seed(home: Path, chosen: int, seeds: Sequence[int]) -> None:
    """Make the chosen seed's model the run's and remove the models of the seeds; idempotent."""
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


class PrefixedObserver:
    """An observer that passes everything on, with a prefix before the names of metrics.

    Args:
        onward: Receives everything.
        prefix: Such as ``seed0/``.
    """

    def __init__(self, onward: Observer, prefix: str) -> None:
        self._prefix = prefix
        self.progress, self.warn, self._metrics = onward.progress, onward.warn, onward.metrics

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Pass metrics on under their prefixed names."""
        self._metrics({self._prefix + name: value for name, value in values.items()}, step)
