"""Recording of a search and its candidates in MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .engine.stage import Run

if TYPE_CHECKING:
    from bort.search.candidates import CandidateRecord
    from bort.tracking.tracker import TrackedRun

#: Candidates with a run of their own where errors cost no training.
_MOST_UNTRAINED = 300
#: What a candidate's tracked run says of it.
_FIGURES = ("parameters", "operations", "latency", "error", "w", "steps", "tokens", "processor_seconds")


def tracking(run: Run) -> Callable[[CandidateRecord], None]:
    """Returns what records each candidate as a child run of the search.

    Of errors that no training stands behind, only the first have a run of their own: making one takes forty milliseconds, and
    ``candidates.csv`` holds them all.
    """
    most = math.inf if run.config.error.trains else _MOST_UNTRAINED
    recorded = 0

    def record(ended: CandidateRecord) -> None:
        nonlocal recorded
        recorded += 1
        if recorded > most:
            return
        candidate = ended.as_dict()
        same_shape = f"/{candidate['fingerprint']}" if candidate["theta"] else ""
        tracked = run.tracked.child(
            candidate["name"], f"{run.tracked.key}/{candidate['name']}{same_shape}", start=time.time() - candidate["seconds"]
        )
        shape = {name: candidate[name] for name in ("depth", "heads", "hidden", "intermediate")}
        tracked.params({**shape, **candidate.get("theta", {})})
        # The error is a curve over steps, and its last point the candidate's own.
        curve = [("error", error, steps) for steps, error in candidate["curve"] if error is not None]
        figures = {name: candidate.get(name) for name in _FIGURES if not (curve and name == "error")}
        figures |= {f"latency_{name}": value for name, value in candidate["percentiles"].items()}
        tracked.metrics({name: value for name, value in figures.items() if value is not None})
        tracked.metric_batch(curve)
        if candidate.get("checkpoint"):
            tracked.artifact(candidate["checkpoint"], "checkpoint")
        tracked.finish(candidate["state"])

    return record


def record_search(tracked: TrackedRun, result: Mapping[str, Any]) -> None:
    """Records what the search itself found: the winner, and the best W over the steps spent."""
    winner = result["winner"]
    tracked.params({"strategy": result["strategy"]["name"], "winner": winner["name"]})
    tracked.metric_batch(("best_w", row["w"], row["trained_steps"]) for row in result["history"] if row["w"] is not None)
    figures = {f"winner/{name}": winner.get(name) for name in ("w", "error", "parameters", "operations", "latency")}
    figures |= {name: result.get(name) for name in ("trained_steps", "processor_seconds")}
    tracked.metrics({name: value for name, value in figures.items() if value is not None})
