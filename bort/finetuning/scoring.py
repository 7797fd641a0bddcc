"""Scores of a classifier that is trained already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from bort.events import Observer, Quiet
from bort.finetuning.classifier import load_classifier, logits, longest_input
from bort.finetuning.config import Impl
from bort.finetuning.encode import encode, evaluation_batches
from bort.finetuning.once import Plain, device_of
from bort.finetuning.predictions import lines, predict_from_logits
from bort.tasks.intervals import bootstrap_interval
from bort.tasks.labels import label_order
from bort.tasks.metrics import majority_baseline, score
from bort.tasks.task import Task


def evaluate(model_dir: str | Path, task: Task, *, impl: Impl | None = None, observer: Observer | None = None) -> dict[str, Any]:
    """Scores a fine-tuned classifier on the held-out split.

    Its labels are matched to the task's by name, never by position: models order them differently.

    Args:
        model_dir: A directory that :func:`bort.finetuning.finetune` or transformers wrote.
        task: The task.
        impl: Device.
        observer: Told of progress.

    Returns:
        ``metrics`` (name → value and ``examples``, the interval over examples), ``baseline``, ``task``, ``predictions``
        (text of ``predictions.jsonl``).

    Raises:
        BortError: The directory holds no classifier, or one with other labels.
    """
    observer, device = observer or Quiet(), device_of((impl or Plain()).device)
    model, tokenizer = load_classifier(model_dir)
    order = label_order(model.config.id2label, task)
    model.to(device)
    data = encode(task.heldout, tokenizer, longest_input(model, tokenizer, task.max_length))
    found = np.empty((len(data.labels), task.outputs))
    done = 0
    with torch.inference_mode():
        for indices in evaluation_batches(data.lengths):
            inputs = {name: value.to(device) for name, value in data.batch(indices).items()}
            found[indices] = logits(model, inputs).double().cpu().numpy()[:, order]
            done += len(indices)
            observer.progress(f"score {task.name}", done, len(data.labels))
    predictions = predict_from_logits(task, found)
    scores = score(task, predictions, task.heldout)
    return {
        "metrics": {
            name: {"value": value, "examples": bootstrap_interval(task, name, [predictions])} for name, value in scores.items()
        },
        "baseline": majority_baseline(task),
        "task": task.record(),
        "predictions": lines(task, found),
    }

