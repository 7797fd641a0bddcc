"""`bort search`: which architecture has the largest W-coefficient."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from . import artifacts, candidates, estimators, tables
from .app.main import entry
from .engine import engines
from .engine.schema import Config
from .engine.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Runs the strategy on the space until its budget is spent."""
    from bort.search.worker import run_search

    from .engine.workers import beside

    config = run.config
    # While nobody trains yet.
    latency = candidates.latency(run)
    with ExitStack() as stack:
        if config.impl.engine == "local":
            stack.enter_context(beside(run, "search"))
        problem = candidates.problem(run, latency)
        result: dict[str, Any] = run_search(
            problem,
            config.strategy,
            seed=config.seed,
            storage=config.storage,
            directory=run.directory,
            engine=stack.enter_context(engines.placed(run, problem)),
            # What candidates learn is told by runs of their own.
            observer=run.console,
            on_candidate=candidates.tracking(run),
        )
    artifacts.record(run, result)
    candidates.record_search(run.tracked, result)
    return result


def needs(config: Config) -> tuple[str, ...]:
    """The stages that an error by distillation stands on; a table or a proxy needs none."""
    if not estimators.trains(config.error):
        return ()
    return ("corpus", "teacher") if config.loss.targets else ("corpus",)


def settings(config: Config) -> tuple[str, ...]:
    """What changes the result of a search."""
    keys = ("search_space", "strategy", "error", "latency", "search", "seed")
    return (
        (*keys, "loss", "train", "student.initialisation", "student.dropout", "student.initializer_range", "masking")
        if needs(config)
        else keys
    )


def check(config: Config) -> None:
    """Refuses a space, a strategy, limits, a storage or an engine that cannot be used, before anything else is run."""
    from bort.search.storage.base import check_storage

    candidates.check(config)
    check_storage(config.storage)
    engines.check(config)


STAGE = Stage(
    name="search",
    work=work,
    settings=settings,
    needs=needs,
    sources=estimators.sources,
    show=tables.search,
    headline=lambda result: f"{result['winner']['name']} wins with W = {result['winner']['w']:.3f}",
    check=check,
    shared=True,
)


def main() -> None:
    """Searches, or says how far the search is: ``bort search status``."""
    if sys.argv[1:2] == ["status"]:
        from . import search_status

        del sys.argv[1]
        search_status.main()
    else:
        entry("search")()


if __name__ == "__main__":
    main()
