"""The metrics of GLUE, SuperGLUE and RACE, and the score of a model that has learnt nothing.

The class metrics are written as functions of confusion matrices, many at once, because an interval over examples needs a thousand
of them; scikit-learn and scipy are the reference they are tested against. The others are means over what they judge: an answer,
all answers to a question, a pair.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.tasks.task import Example, Task, normalise

Array = NDArray[np.float64]

#: Gives a value for each thing that is judged, and the example whose weight it has.
Judge = Callable[[Sequence[float], Sequence[Example]], tuple[Array, list[int]]]


def score(task: Task, predictions: Sequence[float], examples: Sequence[Example]) -> dict[str, float]:
    """Returns every metric of the task.

    Args:
        task: Says which metrics.
        predictions: Indices of classes or options, or numbers for a regression; length N.
        examples: With the truth; length N.
    """
    weights = np.ones((1, len(examples)))
    return {name: float(weighted(task, name, predictions, examples, weights)[0]) for name in task.metrics}


def weighted(task: Task, metric: str, predictions: Sequence[float], examples: Sequence[Example], weights: Array) -> Array:
    """Returns one metric under several weightings of the examples.

    Args:
        task: Says of what kind the predictions are.
        metric: Its name.
        predictions: Indices of classes or options, or numbers; length N.
        examples: With the truth; length N. Those that a metric judges together must have the same weight.
        weights: How often each example counts, [R, N].

    Returns:
        The scores, [R]: in [0, 1], or in [−1, 1] for correlations. Where a score has no value (nothing varies), it is 0.
    """
    judge = _accuracy_of_options if task.kind == "choice" and metric == "accuracy" else _JUDGES.get(metric)
    if judge is not None:
        values, owners = judge(predictions, examples)
        chosen = weights[:, owners]
        return _ratio(chosen @ values, chosen.sum(axis=1))
    found = np.asarray(predictions, dtype=np.float64)
    truth = np.array([example.label for example in examples], dtype=np.float64)
    return weighted_scores(metric, found, truth, weights, max(2, len(task.labels)))


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


# F1a of MultiRC is the F1 of "this answer is right" over all answers to all questions.
_CONFUSED = {"accuracy": _accuracy, "f1": _f1, "f1a": _f1, "macro_f1": _macro_f1, "matthews_correlation": _matthews}


def _accuracy_of_options(predictions: Sequence[float], examples: Sequence[Example]) -> tuple[Array, list[int]]:
    values = [float(int(found) in example.right) for found, example in zip(predictions, examples, strict=True)]
    return np.array(values), list(range(len(values)))


def _of_answers(judge: Callable[[str, Sequence[str]], float]) -> Judge:
    """Returns the metric that compares the text of the chosen option with those of the right answers, as ReCoRD is scored."""

    def values(predictions: Sequence[float], examples: Sequence[Example]) -> tuple[Array, list[int]]:
        found = []
        for index, example in zip(predictions, examples, strict=True):
            right = example.answers or [example.options[option] for option in sorted(example.right)]
            chosen = example.options[int(index)] if example.options else ""
            found.append(judge(chosen, right))
        return np.array(found), list(range(len(found)))

    return values


def _groups(predictions: Sequence[float], examples: Sequence[Example]) -> list[tuple[int, list[tuple[float, float]]]]:
    """Returns the first member of each group, and prediction and truth of all of them; an example without one stands alone."""
    members: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for place, (found, example) in enumerate(zip(predictions, examples, strict=True)):
        members[example.group or f"\x1e{place}"].append((place, found, example.label))
    return [(group[0][0], [(found, truth) for _, found, truth in group]) for group in members.values()]


def _question_exact(predictions: Sequence[float], examples: Sequence[Example]) -> tuple[Array, list[int]]:
    """Whether all answers to a question are judged rightly: the exact match of MultiRC."""
    groups = _groups(predictions, examples)
    values = [float(all(found == truth for found, truth in pairs)) for _, pairs in groups]
    return np.array(values), [place for place, _ in groups]


def _parity(predictions: Sequence[float], examples: Sequence[Example]) -> tuple[Array, list[int]]:
    """Whether texts that differ by a pronoun's gender alone are judged alike: the gender parity of Winogender (AX-g)."""
    groups = _groups(predictions, examples)
    return np.array([float(len({found for found, _ in pairs}) == 1) for _, pairs in groups]), [place for place, _ in groups]


def answer_f1(prediction: str, answers: Iterable[str]) -> float:
    """Returns the F1 of the normalised words of an answer, against the right answer that suits it best; 0 where there is none.

    Two answers of which nothing is left agree, and one of which nothing is left agrees with no other.
    """
    return max((_word_f1(normalise(prediction).split(), normalise(answer).split()) for answer in answers), default=0.0)


def answer_exact(prediction: str, answers: Iterable[str]) -> float:
    """Returns 1 where the normalised answer is one of the right ones, else 0."""
    return float(any(normalise(prediction) == normalise(answer) for answer in answers))


def _word_f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


_JUDGES: dict[str, Judge] = {
    "answer_f1": _of_answers(answer_f1),
    "answer_exact_match": _of_answers(answer_exact),
    "question_exact_match": _question_exact,
    "gender_parity": _parity,
}


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
    best that any constant answer reaches in each (all-positive, for an F1 whose positive class is rare). For a choice the answer
    is a position among the options; where there is no train, held-out tells what is frequent.

    Returns:
        ``label``, ``metrics`` by name, ``best_constant`` by metric.
    """
    known = [example for example in (task.train or task.heldout) if example.right]
    if task.kind == "regression":
        mean = float(np.mean([example.label for example in known]))
        metrics = score(task, [mean] * len(task.heldout), task.heldout)
        return {"label": mean, "metrics": metrics, "best_constant": dict(metrics)}
    counts = Counter(min(example.right) for example in known)
    # Ties go to the lower index, so that the baseline does not depend on the order of the examples.
    majority = min(counts, key=lambda index: (-counts[index], index))
    answers = range(len(task.labels)) if task.labels else range(max(len(example.options) for example in task.heldout))
    constants = {index: score(task, [_nearest(index, one) for one in task.heldout], task.heldout) for index in answers}
    best = {name: max(scores[name] for scores in constants.values()) for name in task.metrics}
    label = task.labels[majority] if task.labels else f"option {majority}"
    return {"label": label, "metrics": constants.get(majority, best), "best_constant": best}


def _nearest(index: int, example: Example) -> int:
    """Returns the index, or that of the last option where there are fewer."""
    return min(index, len(example.options) - 1) if example.options else index
