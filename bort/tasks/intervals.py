"""Confidence intervals of scores, over training seeds and over held-out examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.randomness import seeded_generator
from bort.statistics import percentile_interval, t_interval
from bort.tasks.metrics import Array, weighted
from bort.tasks.task import Example, Task


def seed_interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
    """Return mean, median and Student's t-interval of the mean over seeds.

    Args:
        values: One score per seed, at least one.
        confidence: In (0, 1).

    Returns:
        ``mean``, ``median``, ``low``, ``high``, ``values``; low and high are ``None`` for a single seed.
    """
    mean, median = float(np.mean(values)), float(np.median(values))
    low, high = t_interval(values, confidence)
    return {"mean": mean, "low": low, "high": high, "median": median, "values": [float(value) for value in values]}


def bootstrap_interval(
    task: Task,
    metric: str,
    predictions: Sequence[Sequence[float]],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Returns the percentile interval of a score under resampling of the held-out examples.

    Each resample is scored for every training seed and the mean taken, so the interval belongs to the mean that is reported and
    shows what another draw of examples would have given. Examples of one ``unit``, such as the questions on a passage, are drawn
    together, because they are not independent.

    Args:
        task: Its held-out examples are resampled.
        metric: One of the task's metrics.
        predictions: Held-out predictions of each seed, [seeds, N].
        resamples: Number of resamples.
        confidence: Of the interval, in (0, 1).
        seed: Fixes the resamples.

    Returns:
        ``low`` and ``high``.
    """
    owners = _units(task.heldout)
    generator = seeded_generator(seed)
    scores: list[Array] = []
    count = int(owners.max()) + 1
    # In portions, so that the weights of a large task do not fill the memory.
    portion = max(1, min(resamples, 4_000_000 // len(owners)))
    for start in range(0, resamples, portion):
        draws = generator.multinomial(count, np.full(count, 1 / count), size=min(portion, resamples - start))
        weights = draws.astype(np.float64)[:, owners]
        found = [weighted(task, metric, one, task.heldout, weights) for one in predictions]
        scores.append(np.mean(found, axis=0))
    return percentile_interval(np.concatenate(scores), confidence)


def _units(examples: Sequence[Example]) -> NDArray[np.int64]:
    """Returns the number of the unit that each example belongs to, [N]; one without a unit is one by itself."""
    numbers: dict[str, int] = {}
    keys = (example.unit or example.group or f"\x1e{place}" for place, example in enumerate(examples))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
