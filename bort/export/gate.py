"""Whether an int8 model may stand in for the full one: the task's own metric on held-out data decides, never the eye."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bort.export.convert import EMBEDDING, EVERYTHING, quantise
from bort.observer import Observer

#: What is quantised, the smallest file first; the next is tried where one loses too much.
PLANS = {"weights and embedding": EVERYTHING, "embedding alone": EMBEDDING}


@dataclass(frozen=True)
class Gate:
    """What an int8 model has to pass.

    Args:
        task: The task's name.
        metric: The metric it is judged by.
        examples: How many held-out examples it is judged on.
        score: Gives the metric (1 is best) of an ONNX file and its prediction for each example.
    """

    task: str
    metric: str
    examples: int
    score: Callable[[Path], tuple[float, Sequence[float]]]


def quantised(full: Path, small: Path, gate: Gate | None, allowed: float, observer: Observer) -> dict[str, Any]:
    """Writes the smallest int8 file that passes its gate; without one the smallest, marked as not judged.

    Args:
        full: The ONNX file in float32.
        small: The file to write; it is not there afterwards where none passed.
        gate: What it has to pass; None where there is no task.
        allowed: Points (hundredths of the metric) that it may lose.
        observer: Warned of what was not kept.

    Returns:
        ``bytes`` and ``full_bytes``, ``quantised`` (what is), ``accepted`` (None: not judged), ``allowed``, and of a judged one
        ``task``, ``metric``, ``examples``, ``full_score``, ``score``, ``lost`` (points; negative for a gain), ``changed``
        (predictions that differ), and ``tried`` (the same of each plan before it).
    """
    if gate is None:
        observer.warn("int8 was kept without a judge: only a task's held-out data can tell what it loses.")
        return {**_written(full, small, next(iter(PLANS)), allowed), "accepted": None}
    before = gate.score(full)
    form: dict[str, Any] = {}
    tried: list[dict[str, Any]] = []
    for plan in PLANS:
        form = {**_written(full, small, plan, allowed), **judge(before, gate.score(small), allowed)}
        if form["accepted"]:
            break
        tried.append(form)
        small.unlink()
        observer.warn(
            f"int8 ({plan}) loses {form['lost']:.2f} points of {gate.metric} ({100 * form['full_score']:.2f} to "
            f"{100 * form['score']:.2f} on {gate.examples} held-out examples of {gate.task}), more than the {allowed:g} of "
            "export.int8_loss, and was not kept."
        )
    return {**form, "task": gate.task, "metric": gate.metric, "examples": gate.examples, "tried": tried}


def _written(full: Path, small: Path, plan: str, allowed: float) -> dict[str, Any]:
    quantise(full, small, operators=PLANS[plan])
    return {"bytes": small.stat().st_size, "full_bytes": full.stat().st_size, "quantised": plan, "allowed": allowed}


def judge(before: tuple[float, Sequence[float]], after: tuple[float, Sequence[float]], allowed: float) -> dict[str, Any]:
    """Compares two scores with their predictions; a score that is not a number is never accepted."""
    lost = 100 * (before[0] - after[0])
    changed = sum(old != new for old, new in zip(before[1], after[1], strict=True))
    return {
        "full_score": before[0],
        "score": after[0],
        "lost": lost,
        "changed": changed,
        "accepted": bool(lost <= allowed),
    }
