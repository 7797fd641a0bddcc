"""`bort reproduce`: the whole chain, from text to report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from . import tables
from .app.main import entry
from .app.overrides import command
from .engine.schema import Config, plain
from .engine.stage import Run, Stage

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
            "baselines": _baselines(tuned),
            "comparison": tuned.get("comparison"),
            "gains": tuned.get("gains"),
        }
    if measured := results.get("benchmark"):
        whole["latency"] = {key: measured[key] for key in ("rows", "ratios", "environment", "busy")}
    return whole


def _baselines(tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the baselines by name, the fine-tuned teacher among them if it was fine-tuned."""
    found = dict(tuned.get("baselines") or {})
    if teacher := tuned["models"].get("teacher"):
        cost = {"parameters": teacher["parameters"], "latency_ms": teacher.get("latency_ms")}
        found["teacher"] = {**teacher["metrics"], **cost, "processor_seconds": teacher["cost"]["processor_seconds"]}
    return found


def _figures(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: model.get(key) for key in _MODEL}


def work(run: Run) -> dict[str, Any]:
    """Puts the stages' results together, draws the report, and delivers all that was tracked."""
    from bort.report.page import build_report

    result = summary(run.config, run.inputs, run.manifests)
    result["commands"] = [command("reproduce")]
    started = time.monotonic()
    run.tracker.sync()
    result["seconds"]["tracking"] = time.monotonic() - started
    result["mlflow"] = run.tracker.result()
    started = time.monotonic()
    result["report"] = str(build_report(result, run.directory / "report"))
    result["seconds"]["report"] = time.monotonic() - started
    run.tracked.artifact(run.directory / "report", "report")
    _record(run, result)
    return result


def _record(run: Run, result: dict[str, Any]) -> None:
    """Records the chain's findings and costs with its own run, where chains are compared."""
    run.tracked.params({"winner": result["winner"]["name"], "task": result["task"]["name"]})
    scores = {
        f"{role}/{metric}": score["mean"]
        for role in ("student", "twin", "teacher")
        for metric, score in result["task"].get(role, {}).items()
    }
    figures = {"winner/w": result["winner"]["w"], "winner/parameters": result["winner"]["parameters"]}
    run.tracked.metrics({**scores, **figures, **{f"seconds/{stage}": seconds for stage, seconds in result["seconds"].items()}})
    corpus, task = result["corpus"], result["finetune"]["task"]
    run.tracked.dataset(corpus["name"], corpus["digest"], run.config.corpus.where, corpus["tokens"], context="training")
    run.tracked.dataset(task["name"], task["digest"], run.config.task.path or "", task["examples"], context="fine-tuning")


STAGE = Stage(
    name="reproduce",
    work=work,
    settings=lambda config: ("name",),
    needs=lambda config: SECTIONS,
    show=tables.reproduce,
    headline=lambda result: f"{result['winner']['name']}: report in the artifacts",
)

main = entry("reproduce")

if __name__ == "__main__":
    main()
