"""`bort benchmark search`: how often each strategy finds the exhaustive winner, and at what cost, replayed on a table of errors."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from bort.errors import ConfigurationError
from bort.quantities import ErrorInputs
from bort.search.estimator_config import TableErrorConfig
from bort.settings import check_settings

from . import benchmark_tables, search
from .app.main import entry
from .engine.schema import Config
from .engine.stage import Run, Stage

if TYPE_CHECKING:
    from bort.search.problem import Problem


def work(run: Run) -> dict[str, Any]:
    """Replays every strategy, and draws success and regret against cost."""
    from bort.benchmarks.replay import replay
    from bort.report.replay_figures import replay_figures
    from bort.search.table import write_rows

    config = run.config
    result: dict[str, Any] = replay(
        functools.partial(table_problem, config),
        error_table(config),
        config.replay,
        workers=config.impl.workers,
        observer=run.observer,
    )
    write_rows(run.directory / "outcomes.csv", result.pop("outcomes"))
    for drawing in replay_figures(result):
        drawing.write(run.directory / "figures")
    run.tracked.artifact(run.directory / "figures", "figures")
    run.tracked.artifact(run.directory / "outcomes.csv")
    for row in result["rows"]:
        name, step = f"{row['table']}.{row['strategy']}", round(1000 * row["budget"])
        run.tracked.metric_batch((f"{figure}/{name}", row[figure]["value"], step) for figure in ("success", "near", "regret"))
    return result


def check(config: Config) -> None:
    """Refuses errors that are not in a table, and replays that cannot be run."""
    if config.latency.name != "operations":
        raise ConfigurationError("latency", config.latency.name, "operations, as replays count them")
    check_settings(config.replay, "replay")
    error_table(config)
    table_problem(config).check()


def error_table(config: Config) -> TableErrorConfig:
    """Return the table of errors that is replayed.

    Raises:
        ConfigurationError: The errors come from elsewhere.
    """
    if not isinstance(config.error, TableErrorConfig):
        raise ConfigurationError("error", config.error.name, "bortbench, or table with error.path=FILE, in a replay")
    return config.error


def table_problem(config: Config) -> Problem:
    """Build the search problem with errors from the table."""
    shapes = search.shapes_of(config)
    return search.problem_of(config, shapes, config.error.build(ErrorInputs(list(shapes.space))))


STAGE = Stage(
    name="benchmark_search",
    work=work,
    settings=lambda config: ("search_space", "error", "latency", "search", "replay"),
    sources=search.sources,
    show=benchmark_tables.search,
    headline=benchmark_tables.replay_headline,
    check=check,
)
main = entry("benchmark_search")

if __name__ == "__main__":
    main()
