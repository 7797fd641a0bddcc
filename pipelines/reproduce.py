"""`bort reproduce`: the whole chain, from text to report."""

from __future__ import annotations

import shlex
import time
from typing import Any

from pipelines import tables
from pipelines.app import entry
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
