"""Accuracy, F1, Matthews correlation, Pearson and Spearman correlation, and the score of a model that has learnt nothing.

The class metrics are written as functions of confusion matrices, many at once, because an interval over examples needs a thousand
of them; scikit-learn and scipy are the reference they are tested against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.tasks.task import Task

Array = NDArray[np.float64]


def score(task: Task, predictions: Sequence[float], targets: Sequence[float]) -> dict[str, float]:
    """Returns every metric of the task.

    Args:
        task: Says which metrics.
        predictions: Class indices, or numbers for a regression; length N.
        targets: The truth; length N.
    """
    found, truth = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    weights = np.ones((1, len(truth)))
    return {name: float(weighted_scores(name, found, truth, weights, max(2, len(task.labels)))[0]) for name in task.metrics}


def weighted_scores(metric: str, predictions: Array, targets: Array, weights: Array, classes: int) -> Array:
    """Returns one metric under several weightings of the examples.

    Args:
        metric: Its name.
        predictions: Class indices or numbers, [N].
        targets: The truth, [N].
        weights: How often each example counts, [R, N].
        classes: Number of classes; ignored by correlations.

    Returns:
        The scores, [R]: in [0, 1], or in [−1, 1] for correlations. Where a score has no value (nothing varies), it is 0.
    """
    if metric == "pearson":
        return _pearson(predictions, targets, weights)
    if metric == "spearman":
        return np.array([_spearman(predictions, targets, row) for row in weights])
    cells = predictions.astype(np.int64) + classes * targets.astype(np.int64)
    onehot = np.zeros((len(cells), classes * classes))
    onehot[np.arange(len(cells)), cells] = 1.0
    confusion = (weights @ onehot).reshape(len(weights), classes, classes)  # [R, truth, prediction]
    return _CONFUSED[metric](confusion)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _accuracy(confusion: Array) -> Array:
    return _ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2)))


def _class_f1(confusion: Array) -> Array:
    """F1 of each class, [R, C]: 2TP / (2TP + FP + FN), 0 for a class that is neither there nor predicted."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    return _ratio(2 * hits, confusion.sum(axis=1) + confusion.sum(axis=2))


def _f1(confusion: Array) -> Array:
    return np.asarray(_class_f1(confusion)[:, 1])


def _macro_f1(confusion: Array) -> Array:
    """Mean F1 of the classes that occur in truth or prediction, as scikit-learn takes it."""
    present = (confusion.sum(axis=1) + confusion.sum(axis=2)) > 0
    return _ratio((_class_f1(confusion) * present).sum(axis=1), present.sum(axis=1).astype(np.float64))


def _matthews(confusion: Array) -> Array:
    """Multi-class Matthews correlation (Gorodkin 2004); 0 where truth or prediction has a single class."""
    total = confusion.sum(axis=(1, 2))
    predicted, true = confusion.sum(axis=1), confusion.sum(axis=2)
    covariance = np.trace(confusion, axis1=1, axis2=2) * total - (predicted * true).sum(axis=1)
    spread = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(np.maximum(spread, 0)))


_CONFUSED = {"accuracy": _accuracy, "f1": _f1, "macro_f1": _macro_f1, "matthews_correlation": _matthews}


def _pearson(predictions: Array, targets: Array, weights: Array) -> Array:
    # Centred first: the moments of centred values lose no digits to a large mean.
    x, y = predictions - predictions.mean(), targets - targets.mean()
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    covariance = weights @ (x * y) / total - mean_x * mean_y
    spread_x, spread_y = weights @ (x * x) / total - mean_x**2, weights @ (y * y) / total - mean_y**2
    scale = np.sqrt(np.maximum(spread_x, 0) * np.maximum(spread_y, 0))
    return np.clip(np.where(scale > 1e-300, covariance / np.maximum(scale, 1e-300), 0.0), -1, 1)


def _spearman(predictions: Array, targets: Array, weights: Array) -> float:
    from scipy.stats import rankdata

    counts = weights.astype(np.int64)
    ranks = [rankdata(np.repeat(values, counts)) for values in (predictions, targets)]
    return float(_pearson(ranks[0], ranks[1], np.ones((1, len(ranks[0]))))[0])


def majority_baseline(task: Task) -> dict[str, Any]:
    """Scores the model that always gives the most frequent label of train (or its mean target) on held-out.

    On unbalanced labels accuracy alone flatters; the baseline is therefore given in every metric of the task, and beside it the
    best that any constant answer reaches in each (all-positive, for an F1 whose positive class is rare).

    Returns:
        ``label``, ``metrics`` by name, ``best_constant`` by metric.
    """
    truth = [example.label for example in task.heldout]
    if task.kind == "regression":
        mean = float(np.mean([example.label for example in task.train]))
        metrics = score(task, [mean] * len(truth), truth)
        return {"label": mean, "metrics": metrics, "best_constant": dict(metrics)}
    counts = Counter(int(example.label) for example in task.train)
    # Ties go to the lower index, so that the baseline does not depend on the order of the examples.
    majority = min(counts, key=lambda index: (-counts[index], index))
    constants = {index: score(task, [index] * len(truth), truth) for index in range(len(task.labels))}
    best = {name: max(scores[name] for scores in constants.values()) for name in task.metrics}
    return {"label": task.labels[majority], "metrics": constants[majority], "best_constant": best}
