"""The result of a search: winner, front, cost beside that of the exhaustive search, and certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bort.candidate import SharedCost
from bort.errors import BortError
from bort.files import write_json
from bort.search.candidates import candidate_record
from bort.search.pareto import hypervolume, kendall_tau, pareto_front
from bort.search.problem import Candidate, Problem
from bort.search.sensitivity import sensitivity
from bort.search.strategies.config import StrategyConfig
from bort.search.study import COMPLETE, Entry, Ledger
from bort.search.table import TABLE, search_rows, write_table
from bort.search.w import check_winner, precedence


def shared_cost(problem: Problem) -> SharedCost:
    """Return the estimator's cost for all candidates together; 0 for most estimators."""
    reported = getattr(problem.estimator, "shared_cost", None)
    cost: SharedCost = reported() if reported else SharedCost(0, 0, 0.0, 0.0)
    return cost


def costs(problem: Problem, entries: Sequence[Entry], rungs: Sequence[int]) -> dict[str, Any]:
    """Return the cost of a search beside that of the exhaustive search.

    Exhaustive steps are exact. Exhaustive tokens and processor-seconds are estimates: the cost of candidates that reached the
    last rung is known; for every other candidate the cost of a step is a linear function of its operations, fitted to the
    candidates that were trained.

    Returns:
        ``trained_steps``, ``shared_steps``, ``tokens``, ``processor_seconds``, and ``exhaustive`` with ``steps``, ``tokens`` and
        ``processor_seconds``, the latter two ``None`` if nothing was trained.
    """
    shared = shared_cost(problem)
    evaluations = [evaluation for entry in entries for evaluation in entry.curve]
    last = rungs[-1]
    steps = len(problem.feasible) * last
    per_step = _per_step(problem, entries)
    done = {entry.candidate.index: entry for entry in entries if entry.curve and entry.steps == last}
    seconds = sum(
        _seconds(done[candidate.index]) if candidate.index in done else last * per_step(candidate) for candidate in problem.feasible
    )
    trained, tokens = sum(entry.steps for entry in entries), sum(evaluation.tokens for evaluation in evaluations)
    known = trained > 0 and any(evaluation.processor_seconds for evaluation in evaluations)
    return {
        "trained_steps": trained,
        "shared_steps": shared.steps,
        "shared": asdict(shared),
        "tokens": tokens + shared.tokens,
        "processor_seconds": sum(evaluation.processor_seconds for evaluation in evaluations) + shared.processor_seconds,
        "exhaustive": {
            "steps": steps,
            "tokens": round(tokens / trained * steps) if known else None,
            "processor_seconds": seconds if known else None,
        },
    }


def _seconds(entry: Entry) -> float:
    return sum(evaluation.processor_seconds for evaluation in entry.curve)


def _per_step(problem: Problem, entries: Sequence[Entry]) -> Any:
    """Return a function from a candidate to the processor-seconds of one of its steps."""
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


WINNER_FIELDS = (
    "name", "depth", "heads", "hidden", "intermediate", "theta", "w", "parameters", "operations", "latency", "percentiles",
    "error", "steps", "checkpoint", "number", "fingerprint", "metrics",
)  # fmt: skip


def build_result(
    problem: Problem, strategy: StrategyConfig, seed: int, ledger: Ledger, report: dict[str, Any], directory: Path
) -> dict[str, Any]:
    """Return the result of a finished study; write its ``certificate.json`` and, if it trained, its ``table.csv``.

    Raises:
        BortError: No candidate was trained to the last rung with a usable error, or no W is above 0 with the scale of the error.
    """
    # By number: the dictionary's order differs between workers.
    entries = [ledger.entries[number] for number in sorted(ledger.entries)]
    complete = [entry for entry in entries if entry.state == COMPLETE]
    if not complete:
        reasons = "; ".join(sorted({entry.reason for entry in entries if entry.reason})[:3])
        raise BortError(f"All {len(entries)} candidates that were trained failed ({reasons or 'no error was found'}).")
    best = min(complete, key=lambda entry: precedence(problem.w(entry.candidate, entry.error), entry.candidate.index))
    check_winner(problem.w(best.candidate, best.error), (entry.error for entry in complete), problem.scale)
    spent = costs(problem, entries, ledger.rungs)
    winner = candidate_record(best, problem).as_dict()
    history = _history(problem, entries)
    certificate = _certificate(problem, strategy, entries, best, report, spent)
    result = {
        "winner": {key: winner[key] for key in WINNER_FIELDS},
        "strategy": {**asdict(strategy), "seed": seed},
        "space": {"enumerated": problem.space.enumerated, "valid": len(problem.space), "distinct": problem.space.distinct},
        "maximum_point": _maximum_point(problem),
        "constraints": _constraints(problem, winner["name"]),
        **{name: spent[name] for name in ("trained_steps", "shared_steps", "processor_seconds", "tokens")},
        "exhaustive_steps": spent["exhaustive"]["steps"],
        "latency": {"name": problem.latency_name, **problem.circumstances},
        "error": {"estimator": problem.estimator.name, "rungs": list(ledger.rungs), "scale": problem.search.error_scale},
        "front": _front(problem, complete),
        "hypervolume": {
            "value": history[-1]["hypervolume"],
            "reference": dict(zip("pie", (*problem.maximum, _worst(complete)), strict=True)),
        },
        "sensitivity": sensitivity([entry.candidate for entry in complete], [entry.error for entry in complete], problem.scale),
        "correlation": _correlation(problem, complete, ledger.rungs),
        "history": history,
        "certificate": certificate,
        "candidates": [candidate_record(entry, problem).as_dict() for entry in entries],
    }
    write_json(Path(directory) / "certificate.json", certificate)
    # Errors from a table or a formula are not measurements.
    if not getattr(problem.estimator, "immediate", False) and ledger.rungs[-1] > 0:
        write_table(Path(directory) / TABLE, search_rows(problem, entries))
    return result


def _maximum_point(problem: Problem) -> dict[str, Any]:
    shape, (p, i) = problem.maximum_point, problem.maximum
    return {"name": str(shape), **asdict(shape), "p": p, "i": i, "e": problem.search.maximum_point_error}


def _constraints(problem: Problem, winner: str) -> dict[str, Any]:
    """Return, for each limit that is set, the number of candidates within it, and the winner within all limits."""
    counts: dict[str, Any] = {}
    limits = {"max_parameters": problem.search.max_parameters, "max_operations": problem.search.max_operations}
    for name, limit in {**limits, "max_latency_ms": problem.search.max_latency_ms}.items():
        if limit is not None:
            within = [candidate for candidate in problem.candidates if problem.excesses(candidate)[name] <= 0]
            counts[name] = {"limit": limit, "within": len(within)}
    return {"limits": counts, "feasible": len(problem.feasible), "winner": winner}


def _point(problem: Problem, entry: Entry) -> list[float]:
    p_max, i_max = problem.maximum
    return [entry.candidate.parameters / p_max, entry.candidate.latency / i_max, entry.error]


def _front(problem: Problem, complete: Sequence[Entry]) -> list[dict[str, Any]]:
    rows = []
    for index in pareto_front([_point(problem, entry) for entry in complete]):
        entry = complete[index]
        candidate = entry.candidate
        rows.append(
            {
                "name": str(candidate.architecture),
                **asdict(candidate.architecture),
                "theta": dict(candidate.theta),
                "p": candidate.parameters,
                "i": candidate.latency,
                "e": entry.error,
                "w": problem.w(candidate, entry.error),
            }
        )
    return rows


def _worst(complete: Sequence[Entry]) -> float:
    return max(entry.error for entry in complete)


def _volume(points: npt.NDArray[np.float64], worst: float) -> float:
    """Return the hypervolume as a share of the box spanned by T's p, T's i and the largest error."""
    return hypervolume((points / [1.0, 1.0, worst]).tolist(), (1.0, 1.0, 1.0))


def _correlation(problem: Problem, complete: Sequence[Entry], rungs: Sequence[int]) -> dict[str, Any]:
    """Return the rank correlation of each rung, and of size alone, with the last rung.

    If the problem has reference errors of full trainings, the last rung is compared with these in the same way.
    """
    fullest = [entry.error for entry in complete]
    by_rung = [
        {"steps": steps, "kendall_tau": kendall_tau([entry.curve[rung].error for entry in complete], fullest)}
        for rung, steps in enumerate(rungs[:-1])
    ]
    size = [-float(entry.candidate.architecture.encoder_parameters()) for entry in complete]
    found: dict[str, Any] = {
        "kendall_tau": by_rung[0]["kendall_tau"] if by_rung else None,
        "between": [rungs[0], rungs[-1]],
        "n": len(complete),
        "by_rung": by_rung,
        "proxy_kendall_tau": kendall_tau(size, fullest),
    }
    if problem.reference:
        known = [index for index, entry in enumerate(complete) if entry.candidate.architecture in problem.reference]
        full = [problem.reference[complete[index].candidate.architecture] for index in known]
        found["reference"] = {
            "n": len(known),
            "kendall_tau": kendall_tau([fullest[index] for index in known], full),
            "proxy_kendall_tau": kendall_tau([size[index] for index in known], full),
        }
        if not by_rung:
            found["kendall_tau"] = found["reference"]["kendall_tau"]
    return found


def _history(problem: Problem, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the best candidate so far against the cost so far: a row for each change and one for the end."""
    evaluated = sorted(
        ((order, entry, rung) for entry in entries for rung, order in enumerate(entry.orders)), key=lambda row: row[0]
    )
    worst = _worst([entry for entry in entries if entry.state == COMPLETE])
    rows: list[dict[str, Any]] = []
    front = np.empty((0, 3))
    steps, seconds = 0, 0.0
    best: tuple[float, Entry] | None = None
    for _, entry, rung in evaluated:
        evaluation = entry.curve[rung]
        steps += evaluation.steps - (entry.curve[rung - 1].steps if rung else 0)
        seconds += evaluation.processor_seconds
        if entry.state == COMPLETE and rung == len(entry.curve) - 1:
            front = _with(front, np.array(_point(problem, entry)))
            w = problem.w(entry.candidate, entry.error)
            if best is None or precedence(w, entry.candidate.index) < precedence(best[0], best[1].candidate.index):
                best = w, entry
                rows.append(_history_row(steps, seconds, best, _volume(front, worst)))
    assert best is not None
    return [*rows, _history_row(steps, seconds, best, _volume(front, worst))]


def _history_row(steps: int, seconds: float, best: tuple[float, Entry], volume: float) -> dict[str, Any]:
    name = str(best[1].candidate.architecture)
    return {"trained_steps": steps, "processor_seconds": seconds, "w": best[0], "name": name, "hypervolume": volume}


def _with(front: npt.NDArray[np.float64], point: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a front with another point, without those that it dominates."""
    if np.all(front <= point, axis=1).any():
        return front
    return np.vstack([front[~np.all(point <= front, axis=1)], point])


def _certificate(
    problem: Problem,
    strategy: StrategyConfig,
    entries: Sequence[Entry],
    best: Entry,
    report: dict[str, Any],
    spent: dict[str, Any],
) -> dict[str, Any]:
    reached: dict[str, int] = {}
    for entry in entries:
        reached[str(entry.steps)] = reached.get(str(entry.steps), 0) + 1
    p_max, i_max = problem.maximum
    trained, exhaustive = spent["trained_steps"], spent["exhaustive"]["steps"]
    return {
        "strategy": strategy.name,
        "winner": str(best.candidate.architecture),
        "theta": dict(best.candidate.theta),
        "w": problem.w(best.candidate, best.error),
        "space": len(problem.space),
        "thetas": len(problem.search.thetas),
        "candidates": len(problem.candidates),
        "beyond_limits": len(problem.candidates) - len(problem.feasible),
        "never_trained": len(problem.feasible) - sum(1 for entry in entries if entry.curve),
        "trained": sum(1 for entry in entries if entry.curve),
        "trained_to": dict(sorted(reached.items(), key=lambda item: int(item[0]))),
        "failed": sum(1 for entry in entries if entry.state == "failed"),
        "steps": trained,
        "exhaustive_steps": exhaustive,
        "share": trained / exhaustive if exhaustive else 0.0,
        "tokens": spent["tokens"],
        "processor_seconds": spent["processor_seconds"],
        "shared": spent["shared"],
        "exhaustive": spent["exhaustive"],
        "maximum_point": {"name": str(problem.maximum_point), "p": p_max, "i": i_max},
        **report,
    }
