"""Percentiles of call times, and ratios of medians with bootstrap intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bort.randomness import seeded_generator
from bort.statistics import percentile_interval

Samples = NDArray[np.float64]


def summary(milliseconds: Samples) -> dict[str, float]:
    """Returns p50, p90, p99, mean, least and count of the call times of one series [R], in milliseconds."""
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    return {
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p99_ms": float(p99),
        "mean_ms": float(milliseconds.mean()),
        "least_ms": float(milliseconds.min()),
        "repeats": len(milliseconds),
    }


def ratio_of_medians(slow: Samples, fast: Samples, *, confidence: float, resamples: int, seed: int) -> dict[str, float]:
    """Returns how many times faster ``fast`` is than ``slow``, with a percentile bootstrap interval.

    Rounds are resampled as pairs: both series were called in the same round, so what disturbed one of them disturbed both.

    Args:
        slow: Call times of the reference [R], in milliseconds.
        fast: Call times of the other series in the same rounds [R], in milliseconds.
        confidence: Level of the interval, between 0 and 1.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        ``ratio``, ``low`` and ``high``; above 1 means that ``fast`` is the faster one.
    """
    ratios = _resampled(slow, fast, seeded_generator(seed), resamples)
    return {"ratio": float(np.median(slow) / np.median(fast)), **percentile_interval(ratios, confidence)}


def ratio_by_way_of(
    slow: Samples, beside_slow: Samples, beside_fast: Samples, fast: Samples, *, confidence: float, resamples: int, seed: int
) -> dict[str, float]:
    """Returns how many times faster ``fast`` is than ``slow``, measured apart from it, with a percentile bootstrap interval.

    The ratio is slow/beside_slow · beside_fast/fast, each a ratio of medians within its own rounds.

    Args:
        slow: Call times of the one [R], in milliseconds.
        beside_slow: Call times of a third series in the same rounds as ``slow`` [R].
        beside_fast: Call times of the same third series in the same rounds as ``fast`` [Q].
        fast: Call times of the other [Q].
        confidence: Level of the interval, between 0 and 1.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        ``ratio``, ``low`` and ``high``; above 1 means that ``fast`` is the faster one.
    """
    generator = seeded_generator(seed)
    ratios = _resampled(slow, beside_slow, generator, resamples) * _resampled(beside_fast, fast, generator, resamples)
    middle = np.median(slow) / np.median(beside_slow) * np.median(beside_fast) / np.median(fast)
    return {"ratio": float(middle), **percentile_interval(ratios, confidence)}


def _resampled(slow: Samples, fast: Samples, generator: np.random.Generator, resamples: int) -> Samples:
    """Returns the ratio of the medians in each resample of the rounds that both were called in."""
    rounds = generator.integers(0, len(slow), size=(resamples, len(slow)))
    ratios: Samples = np.median(slow[rounds], axis=1) / np.median(fast[rounds], axis=1)
    return ratios
