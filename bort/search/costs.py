"""What a search has cost, and what training every candidate to the last rung would have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bort.candidate import SharedCost
from bort.search.ledger import Entry
from bort.search.problem import Candidate, Problem


def shared_cost(problem: Problem) -> SharedCost:
    """Returns what the estimator has spent on all candidates together; nothing for most estimators."""
    told = getattr(problem.estimator, "shared_cost", None)
    cost: SharedCost = told() if told else SharedCost(0, 0, 0.0, 0.0)
    return cost


def costs(problem: Problem, entries: Sequence[Entry], rungs: Sequence[int]) -> dict[str, Any]:
    """Returns the costs of a search beside those of the exhaustive one.

    Exhaustive steps are exact. Exhaustive tokens and processor-seconds are estimates: what was spent on candidates that reached the
    last rung is known, and for every other candidate the cost of a step is taken to be a linear function of its operations, fitted
    to those that were trained.

    Returns:
        ``trained_steps``, ``shared_steps``, ``tokens``, ``processor_seconds``, and ``exhaustive`` with ``steps``, ``tokens`` and
        ``processor_seconds``, the latter two ``None`` where nothing was trained.
    """
    shared = shared_cost(problem)
    bought = [evaluation for entry in entries for evaluation in entry.curve]
    last = rungs[-1]
    steps = len(problem.feasible) * last
    per_step = _per_step(problem, entries)
    done = {entry.candidate.index: entry for entry in entries if entry.curve and entry.steps == last}
    seconds = sum(
        _seconds(done[candidate.index]) if candidate.index in done else last * per_step(candidate) for candidate in problem.feasible
    )
    trained, tokens = sum(entry.steps for entry in entries), sum(evaluation.tokens for evaluation in bought)
    known = trained > 0 and any(evaluation.processor_seconds for evaluation in bought)
    return {
        "trained_steps": trained,
        "shared_steps": shared.steps,
        "shared": asdict(shared),
        "tokens": tokens + shared.tokens,
        "processor_seconds": sum(evaluation.processor_seconds for evaluation in bought) + shared.processor_seconds,
        "exhaustive": {
            "steps": steps,
            "tokens": round(tokens / trained * steps) if known else None,
            "processor_seconds": seconds if known else None,
        },
    }


def _seconds(entry: Entry) -> float:
    return sum(evaluation.processor_seconds for evaluation in entry.curve)


def _per_step(problem: Problem, entries: Sequence[Entry]) -> Any:
    """Returns a function that tells the processor-seconds of a candidate's step."""
    trained = [entry for entry in entries if entry.steps > 0]
    if not trained:
        return lambda candidate: 0.0
    x = np.array([problem.operations(entry.candidate.architecture) for entry in trained], dtype=np.float64)
    y = np.array([_seconds(entry) / entry.steps for entry in trained])
    slope, base = 0.0, float(y.mean())
    if x.std() > 0:
        slope = max(0.0, float(np.cov(x, y, bias=True)[0, 1] / x.var()))
        base = float(y.mean() - slope * x.mean())

    def seconds(candidate: Candidate) -> float:
        # A line through few points may cross zero.
        return max(float(y.min()), base + slope * problem.operations(candidate.architecture))

    return seconds
