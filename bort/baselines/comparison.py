"""Fine-tuned models and baselines side by side: which are on the front of score, size and latency, and which are dominated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bort.baselines.names import TITLES
from bort.statistics import t_interval


def compare(metric: str, models: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return models and baselines as rows, each with what dominates it.

    One row dominates another if its score is at least as high, and it has no more parameters and no higher latency, and is
    better in one of the three. Means are compared; whether a difference is more than noise is what the intervals are for.

    Args:
        metric: The metric that is compared; more is better.
        models: Results of fine-tuning by role, with ``metrics``, ``parameters``, ``latency_ms`` and ``cost``.
        baselines: What :func:`bort.baselines.run.run_baselines` returns.

    Returns:
        ``metric``; ``rows``, best score first, each with ``name``, ``title``, ``mean``, ``low``, ``high``, ``parameters``,
        ``latency_ms``, ``processor_seconds`` and ``dominated_by`` (names); ``sentence`` on the first model.
    """
    rows = [_model_row(role, model, metric) for role, model in models.items()]
    rows += [
        {
            "name": name,
            "title": record.get("title", TITLES.get(name, name)),
            **record[metric],
            **{key: record[key] for key in ("parameters", "latency_ms", "processor_seconds")},
        }
        for name, record in baselines.items()
    ]
    for row in rows:
        row["dominated_by"] = [other["name"] for other in rows if dominates(other, row)]
    first = rows[0] if models else None
    rows.sort(key=lambda row: -row["mean"])
    return {"metric": metric, "rows": rows, "sentence": _sentence(first, rows) if first else ""}


#: What each difference between two models, trained alike with the same seeds, is worth: the model and its control.
GAINS = {
    "start": ("start", "random"),
    "training": ("student", "start"),
    "teacher": ("student", "twin"),
    "all": ("student", "random"),
}


def gains(models: Mapping[str, Mapping[str, Any]], confidence: float = 0.95) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what the student owes to its start, to its training and to its teacher, seed by seed.

    Args:
        models: Results of fine-tuning by role; ``start`` is the student's start and ``random`` random weights, both with no steps.
        confidence: Of the intervals.

    Returns:
        For each key of :data:`GAINS` whose two models are there, and each metric, the paired difference over seeds as ``mean``,
        ``low`` and ``high`` (Student's t-interval; ``None`` for a single seed). The start and the
        weights themselves are of one seed.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, (role, control) in GAINS.items():
        if role in models and control in models:
            ours, theirs = models[role]["metrics"], models[control]["metrics"]
            found[name] = {metric: _paired(ours[metric]["values"], theirs[metric]["values"], confidence) for metric in ours}
    return found


def _paired(ours: Sequence[float], theirs: Sequence[float], confidence: float) -> dict[str, Any]:
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    low, high = t_interval(differences, confidence)
    return {"mean": sum(differences) / len(differences), "low": low, "high": high}


def dominates(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether one row is nowhere worse than another in score, parameters and latency, and somewhere better."""
    better = [
        (one["mean"], other["mean"]),
        (-(one["parameters"] or 0), -(other["parameters"] or 0)),
        (-(one["latency_ms"] or 0.0), -(other["latency_ms"] or 0.0)),
    ]
    return all(mine >= theirs for mine, theirs in better) and any(mine > theirs for mine, theirs in better)


def _model_row(role: str, model: Mapping[str, Any], metric: str) -> dict[str, Any]:
    score = model["metrics"][metric]
    return {
        "name": role,
        "title": f"{role}, fine-tuned",
        **{key: score[key] for key in ("mean", "low", "high")},
        "parameters": model.get("parameters"),
        "latency_ms": model.get("latency_ms"),
        "processor_seconds": (model.get("cost") or {}).get("processor_seconds"),
    }


def _sentence(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return where a row stands: on the front, or dominated by which others."""
    above = [other for other in rows if other["name"] in row["dominated_by"]]
    if not above:
        return f"The {row['name']} is on the front: nothing measured is as good, as small and as fast at once."
    names = ", ".join(f"{other['name']} ({other['mean']:.3f})" for other in above)
    return f"The {row['name']} ({row['mean']:.3f}) is dominated by {names}: at least as good, no larger and no slower."
