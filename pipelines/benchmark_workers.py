"""`bort benchmark workers`: what more workers gain a search, by engine, on candidates that only wait."""

from __future__ import annotations

from typing import Any

from bort.settings import check_settings

from . import benchmark_tables
from .app.main import entry
from .engine.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Searches with every engine and number of workers."""
    from bort.benchmarks.workers import measure_scaling
    from bort.measure.environment import environment

    circumstances = environment(run.config.impl.threads)
    found = measure_scaling(run.config.scaling, observer=run.observer)
    for row in found["rows"]:
        run.tracked.metric_batch([(f"efficiency.{row['engine']}", row["efficiency"], row["workers"])])
    return {**found, "environment": circumstances}


STAGE = Stage(
    name="benchmark_workers",
    work=work,
    settings=lambda config: ("scaling",),
    show=benchmark_tables.workers,
    headline=lambda result: f"efficiency at least {min(row['efficiency'] for row in result['rows']):.1%}",
    check=lambda config: check_settings(config.scaling, "scaling"),
)
main = entry("benchmark_workers")

if __name__ == "__main__":
    main()
