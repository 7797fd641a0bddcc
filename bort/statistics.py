"""Confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Return Student's t-interval of the mean, or two ``None`` for a single value.

    Args:
        values: The sample, at least one value.
        confidence: In (0, 1).
    """
    if len(values) < 2:
        return None, None
    from scipy.stats import t

    mean = float(np.mean(values))
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def percentile_interval(resamples: NDArray[Any], confidence: float) -> dict[str, float]:
    """Return ``low`` and ``high`` of the percentile bootstrap interval.

    ``scipy.stats.bootstrap`` draws other resamples from the same seed, and records depend on them.

    Args:
        resamples: The statistic of each resample, [R].
        confidence: In (0, 1).
    """
    low, high = np.quantile(resamples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {"low": float(low), "high": float(high)}
