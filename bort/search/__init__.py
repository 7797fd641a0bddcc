"""The OSE search: the space, W and the front, the strategies, and the study loop that any number of workers share."""

from __future__ import annotations

from bort.lazy import lazily

_HOMES = {
    "Candidate": "problem",
    "CandidateRecord": "run",
    "Problem": "problem",
    "ProxyEstimator": "estimators",
    "SearchSpace": "space",
    "TableEstimator": "estimators",
    "hypervolume": "front",
    "kendall_tau": "front",
    "maximum_point": "space",
    "pareto_front": "front",
    "run_search": "run",
    "sensitivity": "objective",
    "w_coefficient": "objective",
}

__all__ = sorted(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
