"""The one result of a whole chain, put together from those of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.schema import Config, plain

#: The stages whose results a report can draw, in the order of the chain.
SECTIONS = ("corpus", "teacher", "search", "distill", "finetune", "export", "benchmark")
_SHAPE = ("name", "depth", "heads", "hidden", "intermediate", "parameters", "operations", "latency", "error", "w")
_MODEL = ("architecture", "parameters", "steps", "tokens", "processor_seconds", "seconds", "heldout")


def summary(config: Config, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what the report draws and `outputs/<name>/result.json` holds.

    Args:
        config: The configuration of the chain.
        results: The result of each stage that was run.
    """
    whole: dict[str, Any] = {"name": config.name, "config": plain(config), **results}
    whole["seconds"] = {name: result["stage_seconds"] for name, result in results.items()}
    if search := results.get("search"):
        whole["winner"] = {key: search["winner"].get(key) for key in _SHAPE}
        whole["candidates"] = search["candidates"]
    if distilled := results.get("distill"):
        whole["student"] = _figures(distilled)
        if distilled.get("twin"):
            whole["twin"] = _figures(distilled["twin"])
    if tuned := results.get("finetune"):
        whole["task"] = {
            "name": tuned["task"]["name"],
            "examples": tuned["task"]["examples"],
            "seeds": [run["seed"] for run in tuned["seeds"]],
            "majority": tuned["baseline"]["metrics"],
            **{role: model["metrics"] for role, model in tuned["models"].items()},
        }
    if measured := results.get("benchmark"):
        whole["latency"] = {key: measured[key] for key in ("rows", "ratios", "environment", "busy")}
    return whole


def _figures(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: model.get(key) for key in _MODEL}
