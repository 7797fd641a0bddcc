"""The OSE search: the space, W and the front, the strategies, and the study loop that any number of workers share."""

from __future__ import annotations

from importlib import import_module
from typing import Any

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


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for, so that configuration alone loads in milliseconds."""
    if name in _HOMES:
        return getattr(import_module(f"bort.search.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bort.search' has no attribute '{name}'")
