"""From logits to what the user reads."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from bort.tasks.task import Task


def predict_from_logits(task: Task, found: NDArray[np.float64]) -> list[float]:
    """Returns the most likely class index of each example, or the number of a regression.

    Args:
        task: Says which.
        found: Logits, [N, outputs].
    """
    if task.kind == "regression":
        return [float(value) for value in found[:, 0]]
    return [float(index) for index in found.argmax(axis=1)]


def lines(task: Task, found: NDArray[np.float64]) -> str:
    """Returns ``predictions.jsonl`` of the held-out split: identity, truth, prediction and, for classes, probabilities.

    Args:
        task: The task.
        found: Held-out logits, [N, outputs].
    """
    shifted = np.exp(found - found.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    records = []
    for example, prediction, row in zip(task.heldout, predict_from_logits(task, found), probabilities, strict=True):
        if task.kind == "regression":
            records.append({"id": example.identity, "label": example.label, "prediction": prediction})
            continue
        named = {name: round(float(value), 6) for name, value in zip(task.labels, row, strict=True)}
        truth, guess = task.labels[int(example.label)], task.labels[int(prediction)]
        records.append({"id": example.identity, "label": truth, "prediction": guess, "probabilities": named})
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
