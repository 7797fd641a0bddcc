"""`bort reproduce`: the whole chain, from text to report."""

from __future__ import annotations

import shlex
import time
from typing import Any

from rich.console import Group, RenderableType

from pipelines.app import entry
from pipelines.console import table
from pipelines.stage import Run, Stage
from pipelines.summary import SECTIONS, summary


def work(run: Run) -> dict[str, Any]:
    """Puts the stages' results together, draws the report, and delivers all that was tracked."""
    from hydra.core.hydra_config import HydraConfig

    from bort.report import build_report

    result = summary(run.config, run.inputs)
    result["commands"] = [shlex.join(["bort", "reproduce", *HydraConfig.get().overrides.task])]
    started = time.monotonic()
    run.tracker.sync()
    result["seconds"]["tracking"] = time.monotonic() - started
    result["mlflow"] = run.tracker.result()
    started = time.monotonic()
    result["report"] = str(build_report(result, run.directory / "report"))
    result["seconds"]["report"] = time.monotonic() - started
    run.tracked.artifact(run.directory / "report", "report")
    run.tracked.metrics({f"seconds.{stage}": seconds for stage, seconds in result["seconds"].items()})
    return result


def show(result: dict[str, Any]) -> RenderableType:
    """What was found, what it cost, and where to look."""
    winner, student, task = result["winner"], result["student"], result["task"]
    teacher = result["teacher"]
    metric = next(iter(task["student"]))
    found = [
        ("winner", f"{winner['name']}, W = {winner['w']:.3f}"),
        ("size", f"{student['parameters'] / 1e6:.2f} M parameters, {teacher['parameters'] / student['parameters']:.1f}× smaller"),
        *(
            (f"{task['name']} {metric}, {role}", _score(task[role][metric]))
            for role in ("student", "twin", "teacher")
            if role in task
        ),
        (f"{task['name']} {metric}, majority class", f"{task['majority'][metric]:.3f}"),
        ("report", result["report"]),
        ("all runs", "make ui"),
    ]
    costs = [(stage, f"{seconds:.1f}") for stage, seconds in result["seconds"].items()]
    costs.append(("total", f"{sum(result['seconds'].values()):.1f}"))
    return Group(table("What was found", ("", ""), found), table("\nWhat it cost", ("stage", "seconds"), costs))


def _score(score: dict[str, Any]) -> str:
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


STAGE = Stage(
    name="reproduce",
    work=work,
    settings=lambda config: ("name",),
    needs=lambda config: SECTIONS,
    show=show,
    headline=lambda result: f"{result['winner']['name']}: report in the artifacts",
)
main = entry("reproduce")

if __name__ == "__main__":
    main()
