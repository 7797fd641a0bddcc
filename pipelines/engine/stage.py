"""What a stage is, what its work is handed, and which stages there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from bort.tracking.tracker import Recording, TrackedRun, Tracker

from ..app.console import ConsoleObserver
from .schema import Config


@dataclass(frozen=True)
class Run:
    """What a stage's work is handed.

    Args:
        config: The whole configuration.
        directory: Where the stage writes.
        observer: Told of progress, metrics (they become the tracked run's curves) and warnings.
        console: The part of the observer that a person sees; for curves that belong to another tracked run.
        inputs: The results of the stages it needs, by name.
        tracked: The stage's MLflow run.
        tracker: What delivers the tracked runs.
        digest: Digest of all that the stage is made from.
        manifests: The manifests of the stages it needs: what they were made from, and how they were run.
    """

    config: Config
    directory: Path
    observer: Recording
    console: ConsoleObserver
    inputs: Mapping[str, dict[str, Any]]
    tracked: TrackedRun
    tracker: Tracker
    digest: str
    manifests: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One stage of the chain.

    Args:
        name: Its name on the command line.
        work: Does the work and returns the result.
        settings: The keys of the configuration that change its result, given the configuration.
        show: What a person reads when it is done.
        headline: One sentence on the result, for the tracked run.
        needs: The stages whose results it takes, given the configuration.
        sources: Digests of what it reads that no stage made, such as the files of a task.
        check: Refuses a configuration that it cannot work with, before anything is run.
        shared: Whether several workers may be inside at once, as in the search.
        joint: Whether it trains on as many devices as ``impl`` has, with a process for each of them.
    """

    name: str
    work: Callable[[Run], dict[str, Any]]
    settings: Callable[[Config], Sequence[str]]
    show: Callable[[dict[str, Any]], RenderableType]
    headline: Callable[[dict[str, Any]], str] = lambda result: ""
    needs: Callable[[Config], Sequence[str]] = lambda config: ()
    sources: Callable[[Config], Mapping[str, str]] = lambda config: {}
    check: Callable[[Config], None] = lambda config: None
    shared: bool = False
    joint: bool = False


def load(name: str) -> Stage:
    """Returns the stage of that name; only its own module is imported."""
    stage: Stage = importlib.import_module(f"..{name}", __package__).STAGE
    return stage
