"""`bort search`: which architecture has the largest W-coefficient."""

from __future__ import annotations

from typing import Any

from pipelines import artifacts, candidates, estimators, tables
from pipelines.app import entry
from pipelines.schema import Config
from pipelines.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Runs the strategy on the space until its budget is spent."""
    from bort.search import run_search
    from pipelines.workers import beside

    config = run.config
    # While nobody trains yet.
    latency = candidates.latency(run)
    with beside(run, "search"):
        result: dict[str, Any] = run_search(
            candidates.problem(run, latency),
            config.strategy,
            seed=config.seed,
            storage=config.storage,
            directory=run.directory,
            observer=run.observer,
            on_candidate=candidates.tracking(run),
        )
    artifacts.record(run, result)
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
    """Refuses a space, a strategy, limits or a storage that cannot be used, before anything else is run."""
    from bort.search.coordination import check_storage

    candidates.check(config)
    check_storage(config.storage)


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
main = entry("search")

if __name__ == "__main__":
    main()
