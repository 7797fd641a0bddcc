"""What every fine-tuning over several seeds reports, by whatever algorithm each seed was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bort.finetuning.config import FinetuningConfig
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
