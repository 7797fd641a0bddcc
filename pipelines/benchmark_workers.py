"""`bort benchmark workers`: what more workers gain a search, by engine, on candidates that only wait."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from pipelines.app import entry
from pipelines.stage import Run, Stage
from pipelines.tables import table


def work(run: Run) -> dict[str, Any]:
    """Searches with every engine and number of workers."""
    from bort.measure.environment import environment
    from bort.search.scaling import measure_scaling

    circumstances = environment(run.config.impl.threads)
    found = measure_scaling(run.config.scaling, observer=run.observer)
    for row in found["rows"]:
        run.tracked.metric_batch([(f"efficiency.{row['engine']}", row["efficiency"], row["workers"])])
    return {**found, "environment": circumstances}


def show(result: dict[str, Any]) -> RenderableType:
    """Seconds, speed-up and efficiency of each engine and number of workers."""
    rows = [
        (
            row["engine"],
            str(row["workers"]),
            ", ".join(f"{seconds:.2f}" for seconds in row["seconds"]),
            f"{row['speedup']:.2f}×",
            f"{row['efficiency']:.1%}",
        )
        for row in result["rows"]
    ]
    title = f"{result['candidates']} candidates of {result['candidate_seconds']:g} s each"
    return table(title, ("engine", "workers", "seconds of each round", "speed-up", "efficiency"), rows)


STAGE = Stage(
    name="benchmark_workers",
    work=work,
    settings=lambda config: ("scaling",),
    show=show,
    headline=lambda result: f"efficiency at least {min(row['efficiency'] for row in result['rows']):.1%}",
    check=lambda config: config.scaling.check(),
)
main = entry("benchmark_workers")

if __name__ == "__main__":
    main()
