"""The one result of a whole chain, put together from those of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.schema import Config, plain

#: The stages whose results a report can draw, in the order of the chain.
SECTIONS = ("corpus", "teacher", "search", "distill", "finetune", "export", "benchmark")
_SHAPE = ("name", "depth", "heads", "hidden", "intermediate", "parameters", "operations", "latency", "error", "w")
_MADE = ("schema", "digest", "inputs", "command", "machine", "bort", "python", "finished")
_MODEL = ("architecture", "parameters", "steps", "tokens", "processor_seconds", "seconds", "heldout")


def summary(config: Config, results: Mapping[str, Mapping[str, Any]], manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what the report draws and `outputs/<name>/result.json` holds.

    Args:
        config: The configuration of the chain.
        results: The result of each stage that was run.
        manifests: The manifest of each of them.
    """
    whole: dict[str, Any] = {"name": config.name, "config": plain(config), **results}
    whole["stages"] = {name: {key: manifest.get(key) for key in _MADE} for name, manifest in manifests.items()}
    # What a stage was really asked, which the configuration of a report on it need not repeat.
    whole["settings"] = {key: value for manifest in manifests.values() for key, value in manifest.get("settings", {}).items()}
    whole["commands"] = list(dict.fromkeys(made["command"] for made in whole["stages"].values() if made["command"]))
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
