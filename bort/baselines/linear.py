"""A linear model on fixed features, its regularization chosen on steering examples."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.baselines.features import Features, combined
from bort.baselines.rows import Rows, predictions, rows_of
from bort.tasks.metrics import score
from bort.tasks.task import Example, Task

#: Inverse strengths of the L2 penalty that are tried, ascending; features are standardized (dense) or of unit length (sparse).
DENSE_STRENGTHS = tuple(10.0**power for power in np.arange(-4.0, 1.5, 0.5))
SPARSE_STRENGTHS = tuple(10.0**power for power in np.arange(-1.0, 3.5, 0.5))


class LinearBaseline:
    """Logistic regression (ridge regression for numbers) on features; for a choice it judges each option by itself.

    Args:
        features: Fitted on the texts of train.
        task: Trained on its train examples; the strength with the best primary metric on steering wins, the smaller of equals.

    Attributes:
        strength: The inverse strength of the penalty that was chosen.
        steering: The primary metric on steering with it.
    """

    def __init__(self, features: Features, task: Task) -> None:
        import scipy.sparse as sparse

        self._features, self._task = features, task
        train, steering = rows_of(task, task.train), rows_of(task, task.steering)
        features.fit([text for texts in train.texts for text in texts])
        found = combined(features, train.texts)
        self._mean: Any = 0.0
        self._scale: Any = 1.0
        if not sparse.issparse(found):
            self._mean, self._scale = found.mean(axis=0), found.std(axis=0) + 1e-9
            found = (found - self._mean) / self._scale
        strengths = SPARSE_STRENGTHS if sparse.issparse(found) else DENSE_STRENGTHS
        judged = self._rows(steering) if task.steering else None
        best: tuple[float, float, Any] | None = None
        model = None
        for strength in strengths if judged is not None else strengths[len(strengths) // 2 :][:1]:
            model = _fitted(task, strength, found, train.targets, model)
            value = 0.0 if judged is None else self._score(model, judged, steering)
            if best is None or value > best[0]:
                best = value, strength, copy.deepcopy(model)
        assert best is not None
        self.steering, self.strength, self._model = best

    @property
    def parameters(self) -> int:
        """Numbers that the whole model needs at inference."""
        return self._features.parameters + int(np.size(self._model.coef_)) + int(np.size(self._model.intercept_))

    def predict(self, examples: Sequence[Example]) -> list[float]:
        """Return a class index, an option's index or a number for each example."""
        rows = rows_of(self._task, examples)
        return predictions(self._task, rows, _scores(self._task, self._model, self._rows(rows)))

    def _rows(self, rows: Rows) -> Any:
        found = combined(self._features, rows.texts)
        return found if isinstance(self._mean, float) else (found - self._mean) / self._scale

    def _score(self, model: Any, features: Any, rows: Rows) -> float:
        found = predictions(self._task, rows, _scores(self._task, model, features))
        return score(self._task, found, self._task.steering)[self._task.primary]


def _fitted(task: Task, strength: float, features: Any, targets: NDArray[np.float64], weaker: Any) -> Any:
    """Return a model fitted with a strength; ``weaker``, the one fitted before, is where its optimization starts."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    if task.kind == "regression":
        return Ridge(alpha=1.0 / strength).fit(features, targets)
    model = weaker or LogisticRegression(max_iter=1000, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.set_params(C=strength).fit(features, targets.astype(np.int64))


def _scores(task: Task, model: Any, features: Any) -> NDArray[np.float64]:
    if task.kind == "choice":
        return np.asarray(model.decision_function(features))
    return np.asarray(model.predict(features), dtype=np.float64)
