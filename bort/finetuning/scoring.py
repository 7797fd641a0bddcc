"""Score and submissions of a trained classifier."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.errors import BortError
from bort.finetuning.encode import encode
from bort.finetuning.model import check_purpose, load_classifier, longest_input
from bort.model_facts import first_output
from bort.observer import Observer, Quiet
from bort.runtime import resolve_device
from bort.runtime_config import ImplConfig
from bort.tasks.intervals import bootstrap_interval
from bort.tasks.metrics import majority_baseline, score
from bort.tasks.submission import write_submission
from bort.tasks.task import Example, Task

#: From the inputs of a model (``input_ids``, ``attention_mask``, perhaps ``token_type_ids``; [B, S]) to its logits, [B, outputs].
Forward = Callable[[dict[str, Tensor]], Tensor]


def evaluate(
    model_dir: str | Path,
    task: Task,
    *,
    impl: ImplConfig | None = None,
    observer: Observer | None = None,
    directory: str | Path | None = None,
) -> dict[str, Any]:
    """Score a fine-tuned classifier on the held-out split, and predict the unlabelled test set if there is one.

    Labels are matched by name, never by position: models order them differently.

    Args:
        model_dir: A directory that :func:`bort.finetuning.runs.finetune` or transformers wrote.
        task: The task.
        impl: Device.
        observer: Receives progress.
        directory: Receives the submission file and its zip; no submission is made without it.

    Returns:
        ``metrics`` (name → value and ``examples``, the interval over examples; empty without held-out examples), ``baseline``,
        ``task``, ``submission`` (its files, or ``None``), ``predictions`` (text of ``predictions.jsonl``).

    Raises:
        BortError: The directory holds no classifier, or one with other labels, or there is nothing to score or predict.
    """
    observer = observer or Quiet()
    if not task.heldout and not task.unlabelled:
        raise BortError(f"task {task.name} has neither labelled nor unlabelled examples to evaluate a model on.")
    scorer = Scorer(model_dir, task, impl, observer)
    metrics: dict[str, Any] = {}
    baseline = None
    text = ""
    if task.heldout:
        found = scorer.logits(task.heldout, f"score {task.name}")
        predictions = predict_from_logits(task, found)
        metrics = {
            name: {"value": value, "examples": bootstrap_interval(task, name, [predictions])}
            for name, value in score(task, predictions, task.heldout).items()
        }
        baseline, text = majority_baseline(task), lines(task, found)
    submission: dict[str, Any] | None = None
    if task.unlabelled and directory is not None:
        found = scorer.logits(task.unlabelled, f"predict {task.name}")
        submission = write_submission(task, predict_from_logits(task, found), directory)
        text = text or lines(task, found, task.unlabelled)
    return {"metrics": metrics, "baseline": baseline, "task": task.record(), "submission": submission, "predictions": text}


class Scorer:
    """A fine-tuned classifier whose logits are in the order of a task's classes.

    Args:
        model_dir: Its directory.
        task: The task.
        impl: Device.
        observer: Receives progress.
        what: Name of the model in messages.

    Raises:
        BortError: The directory holds no classifier, or one for another task.
    """

    def __init__(
        self,
        model_dir: str | Path,
        task: Task,
        impl: ImplConfig | None = None,
        observer: Observer | None = None,
        *,
        what: str = "The model",
    ) -> None:
        self._task, self._observer = task, observer or Quiet()
        self._device = torch.device(resolve_device(impl or ImplConfig()))
        self._model, self._tokenizer = load_classifier(model_dir)
        self._order = check_purpose(self._model, task, what=what)
        self._model.to(self._device)
        self._length = longest_input(self._model, self._tokenizer, task.max_length)

    def logits(self, examples: Sequence[Example], label: str, forward: Forward | None = None) -> NDArray[np.float64]:
        """Return the logits of examples, [N, outputs], or [N, most options] for a choice.

        Args:
            examples: The examples.
            label: Label of the progress.
            forward: Computes the logits in the model's place, such as its ONNX form.
        """
        data = encode(examples, self._tokenizer, self._length, self._task)
        done = 0

        def compute(indices: NDArray[np.int64]) -> Tensor:
            nonlocal done
            inputs = {name: value.to(self._device) for name, value in data.batch(indices).items()}
            answered = first_output(self._model, inputs) if forward is None else forward(inputs)
            done += len(indices)
            self._observer.progress(label, done, len(data.lengths))
            return answered[:, self._order]

        return data.logits(self._task.outputs, compute)


def predict_from_logits(task: Task, found: NDArray[np.float64]) -> list[float]:
    """Return the index of the most likely class or option of each example, or the number of a regression.

    Args:
        task: The task.
        found: Logits, [N, outputs]; for a choice [N, most options], −∞ where an example has fewer.
    """
    if task.kind == "regression":
        return [float(value) for value in found[:, 0]]
    return [float(index) for index in found.argmax(axis=1)]


def lines(task: Task, found: NDArray[np.float64], examples: Sequence[Example] | None = None) -> str:
    """Return ``predictions.jsonl``: identity, truth if known, prediction and, for classes and options, probabilities.

    Args:
        task: The task.
        found: Logits of the examples; see :func:`predict_from_logits`.
        examples: The examples; the held-out ones if ``None``.
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
            # Options may be long, and two of them equal: they are identified by their index.
            record["probabilities"] = dict(zip(names, shares, strict=True)) if task.labels else shares
            if not task.labels:
                record["option"] = int(prediction)
        records.append(record)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
