"""A candidate that has ended, as a record of primitives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bort.architecture import Architecture
from bort.candidate import Theta
from bort.search.problem import Problem
from bort.search.study import Entry
from bort.search.w import usable


@dataclass(frozen=True)
class CandidateRecord:
    """One candidate that has ended.

    Args:
        name: The architecture, as ``D4-A8-H1024-I768``.
        architecture: The shape.
        theta: Its θ.
        index: Its index in the ordered space, which decides between candidates of equal W.
        number: Its trial's number in the study.
        fingerprint: Digest by which it is known.
        state: ``complete`` (trained to the last rung), ``pruned`` (dropped on the way) or ``failed`` (diverged).
        reason: Why it was dropped or failed.
        parameters: p.
        operations: Multiply-adds at the problem's sequence length.
        latency: i.
        percentiles: Percentiles of a measured latency: ``p50_ms``, ``p90_ms`` and ``p99_ms``.
        error: e at the furthest rung, ``None`` where it failed.
        steps: Training steps of the furthest rung.
        w: W, ``None`` where it was not trained to the last rung.
        curve: Pairs of steps and error, ``None`` for an error that is no number.
        tokens: Tokens trained on.
        processor_seconds: Processor time.
        seconds: Wall time.
        checkpoint: Directory of its weights, where there are any.
        metrics: Further held-out figures at the furthest rung.
    """

    name: str
    architecture: Architecture
    theta: Theta
    index: int
    number: int
    fingerprint: str
    state: str
    reason: str
    parameters: int
    operations: int
    latency: float
    percentiles: dict[str, float]
    error: float | None
    steps: int
    w: float | None
    curve: list[list[float | None]]
    tokens: int
    processor_seconds: float
    seconds: float
    checkpoint: str | None
    metrics: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the record as plain values, the shape by its four numbers."""
        shape = self.architecture
        numbers = {"depth": shape.depth, "heads": shape.heads, "hidden": shape.hidden, "intermediate": shape.intermediate}
        rest = {key: value for key, value in vars(self).items() if key not in ("name", "architecture")}
        return {"name": self.name, **numbers, **rest, "theta": dict(self.theta)}


def candidate_record(entry: Entry, problem: Problem) -> CandidateRecord:
    """Returns what there is to say of a candidate."""
    candidate, curve = entry.candidate, entry.curve
    sound = usable(entry.error)
    checkpoints = [evaluation.checkpoint for evaluation in curve if evaluation.checkpoint]
    return CandidateRecord(
        name=str(candidate.architecture),
        architecture=candidate.architecture,
        theta=dict(candidate.theta),
        index=candidate.index,
        number=entry.number,
        fingerprint=candidate.fingerprint,
        state=entry.state,
        reason=entry.reason,
        parameters=candidate.parameters,
        operations=problem.operations(candidate.architecture),
        latency=candidate.latency,
        percentiles=dict(problem.percentiles.get(candidate.architecture, {})),
        error=entry.error if sound else None,
        steps=entry.steps,
        w=problem.w(candidate, entry.error) if entry.state == "complete" else None,
        curve=[[evaluation.steps, evaluation.error if math.isfinite(evaluation.error) else None] for evaluation in curve],
        tokens=sum(evaluation.tokens for evaluation in curve),
        processor_seconds=sum(evaluation.processor_seconds for evaluation in curve),
        seconds=sum(evaluation.seconds for evaluation in curve),
        checkpoint=checkpoints[-1] if checkpoints else None,
        metrics=dict(curve[-1].metrics) if curve else {},
    )
