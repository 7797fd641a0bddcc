"""From logits to what the user reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.tasks.task import Example, Task


def predict_from_logits(task: Task, found: NDArray[np.float64]) -> list[float]:
    """Returns the most likely class or option of each example by its index, or the number of a regression.

    Args:
        task: Says which.
        found: Logits, [N, outputs]; for a choice [N, most options], −∞ where an example has fewer.
    """
    if task.kind == "regression":
        return [float(value) for value in found[:, 0]]
    return [float(index) for index in found.argmax(axis=1)]


def lines(task: Task, found: NDArray[np.float64], examples: Sequence[Example] | None = None) -> str:
    """Returns ``predictions.jsonl``: identity, truth where it is known, prediction and, for classes and options, probabilities.

    Args:
        task: The task.
        found: Logits of the examples, as above.
        examples: Those of held-out where absent.
    """
    examples = task.heldout if examples is None else examples
    shifted = np.exp(found - found.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    records = []
    for example, prediction, row in zip(examples, predict_from_logits(task, found), probabilities, strict=True):
        record: dict[str, Any] = {"id": example.identity}
        if task.kind == "regression":
            record |= {"label": example.label} if example.labelled else {}
            record["prediction"] = prediction
        else:
            names = list(task.labels) or list(example.options)
            right = [names[index] for index in sorted(example.right)]
            if example.labelled:
                record["label"] = right[0] if len(right) == 1 else right
            record["prediction"] = names[int(prediction)]
            shares = [round(float(value), 6) for value in row[: len(names)]]
            # Options may be long, and two of them alike: they are told by their place.
            record["probabilities"] = dict(zip(names, shares, strict=True)) if task.labels else shares
            if not task.labels:
                record["option"] = int(prediction)
        records.append(record)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
