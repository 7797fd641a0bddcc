"""A task as rows for a linear model, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bort.tasks.task import Example, Task

#: One text, or the two of a pair.
Texts = tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """What a linear model reads of some examples.

    Attributes:
        texts: One or two texts a row; R rows. An example is one row, or one for each of its options.
        owners: Index of the example that a row belongs to, [R], ascending.
        targets: Class index, number, or for a choice 1 for a right option and 0 for a wrong one, [R]; NaN if unknown.
    """

    texts: list[Texts]
    owners: NDArray[np.int64]
    targets: NDArray[np.float64]


def rows_of(task: Task, examples: Sequence[Example]) -> Rows:
    """Return the rows of examples; more than two texts are joined to two, the last one standing alone."""
    texts: list[Texts] = []
    owners: list[int] = []
    targets: list[float] = []
    for index, example in enumerate(examples):
        for option, sequence in enumerate(task.sequences(example)):
            texts.append(sequence if len(sequence) < 3 else (" ".join(sequence[:-1]), sequence[-1]))
            owners.append(index)
            targets.append(float(option in example.right) if task.kind == "choice" else example.label)
    return Rows(texts, np.array(owners, dtype=np.int64), np.array(targets))


def predictions(task: Task, rows: Rows, scores: NDArray[np.float64]) -> list[float]:
    """Return a prediction for each example: a class, a number, or the option with the largest score.

    Args:
        task: States the kind.
        rows: The rows of the examples.
        scores: What the model returns for each row, [R]: a class index, a number, or how right an option is.
    """
    if task.kind != "choice":
        return [float(value) for value in scores]
    starts = np.flatnonzero(np.diff(rows.owners, prepend=-1))
    return [float(np.argmax(part)) for part in np.split(scores, starts[1:])]
