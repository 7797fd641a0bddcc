"""From the cells of the benchmark to its table: paired differences over seeds, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bort.tasks.intervals import seed_interval

#: The goal: this many points ahead on the mean of all settings, and nowhere more than so many behind.
AHEAD, BEHIND = 3.0, 0.5
#: Scores lie in [0, 1] (a correlation in [−1, 1]); a point is a hundredth.
_POINTS = 100.0


def compare(cells: Sequence[Mapping[str, Any]], arms: Sequence[str], confidence: float) -> dict[str, Any]:
    """Compares arms by the task's first metric.

    Differences are taken between arms on the same draw with the same seed, so that what a draw has easy or hard cancels out.

    Args:
        cells: Records of cells, all arms of each unit.
        arms: The arms.
        confidence: Of Student's t-intervals over seeds.

    Returns:
        ``settings``: for each task and size the ``scores`` of each arm and the ``differences`` from plain fine-tuning, in points.
        ``overall``: for each arm the difference of the mean over all settings, by seed. ``cost``: mean steps and processor-seconds
        of each arm. ``verdict`` on Agora (with both ``plain`` and ``agora`` among the arms).
    """
    found = {(cell["task"], cell["size"], cell["seed"], cell["arm"]): cell for cell in cells}
    seeds = sorted({cell["seed"] for cell in cells})
    settings = []
    for task, size in dict.fromkeys((cell["task"], cell["size"]) for cell in cells):
        series = {arm: [_value(found[task, size, seed, arm]) for seed in seeds] for arm in arms}
        one = found[task, size, seeds[0], arms[0]]
        settings.append(
            {
                "task": task,
                "size": size,
                "metric": one["metric"],
                "majority": _POINTS * one["majority"][one["metric"]],
                "scores": {arm: seed_interval(values, confidence) for arm, values in series.items()},
                "differences": {
                    arm: _paired(series[arm], series["plain"], confidence) for arm in arms if arm != "plain" and "plain" in arms
                },
                "refused": sum(bool(found[task, size, seed, arms[0]]["refused"]) for seed in seeds),
                "labeller": float(np.mean([_accuracy(found[task, size, seed, arms[0]]) for seed in seeds])),
            }
        )
    overall = {}
    for arm in arms:
        if arm != "plain" and "plain" in arms:
            by_seed = np.mean([setting["differences"][arm]["values"] for setting in settings], axis=0)
            overall[arm] = seed_interval(by_seed.tolist(), confidence)
    cost = {
        arm: {
            name: float(np.mean([cell[name] for cell in cells if cell["arm"] == arm]))
            for name in ("steps", "processor_seconds", "points")
        }
        for arm in arms
    }
    result = {"settings": settings, "overall": overall, "cost": cost, "seeds": seeds}
    return result | ({"verdict": _verdict(settings, overall["agora"])} if "agora" in overall else {})


def _value(cell: Mapping[str, Any]) -> float:
    return _POINTS * float(cell["heldout"][cell["metric"]])


def _accuracy(cell: Mapping[str, Any]) -> float:
    return float(cell["labeller"]["steering"]["accuracy"]) if cell["labeller"] else float("nan")


def _paired(one: Sequence[float], other: Sequence[float], confidence: float) -> dict[str, Any]:
    return seed_interval([a - b for a, b in zip(one, other, strict=True)], confidence)


def _verdict(settings: Sequence[Mapping[str, Any]], overall: Mapping[str, Any]) -> dict[str, Any]:
    """Says whether Agora is as far ahead of plain fine-tuning as was aimed at."""
    worst = min(settings, key=lambda setting: float(setting["differences"]["agora"]["mean"]))
    behind = float(worst["differences"]["agora"]["mean"])
    excludes = overall["low"] is not None and overall["low"] > 0
    return {
        "mean": overall["mean"],
        "low": overall["low"],
        "high": overall["high"],
        "excludes_zero": excludes,
        "worst": {"task": worst["task"], "size": worst["size"], "difference": behind},
        "met": bool(overall["mean"] >= AHEAD and excludes and behind >= -BEHIND),
    }
