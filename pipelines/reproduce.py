"""`bort reproduce`: the whole chain, from text to report."""

from __future__ import annotations

import time
from typing import Any

from pipelines import tables
from pipelines.app import entry
from pipelines.overrides import command
from pipelines.stage import Run, Stage
from pipelines.summary import SECTIONS, summary


def work(run: Run) -> dict[str, Any]:
    """Puts the stages' results together, draws the report, and delivers all that was tracked."""
    from bort.report import build_report

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
