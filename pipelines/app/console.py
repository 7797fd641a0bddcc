"""What a person sees while a stage works, and when it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from bort.observer import Observer, Quiet

if TYPE_CHECKING:
    from rich.progress import TaskID

#: A terminal remains one while its output passes through a filter (:mod:`pipelines.app.output`). Text between colons, in a path or
#: a name, is not the name of an emoji.
console = Console(stderr=True, highlight=False, emoji=False, force_terminal=sys.stderr.isatty() or None)
if not console.is_terminal:
    # A log has no edge to fold lines at.
    console.width = max(console.width, 120)
#: Bars are for people: where nobody watches a terminal, a line at most every so many seconds takes their place.
_LINE_EVERY_SECONDS = 20.0


class ConsoleObserver:
    """Shows progress as bars on a terminal and as occasional lines elsewhere; hands metrics on to ``curves``.

    Args:
        stage: The stage's name, put before each line.
        curves: Takes the metrics, e.g. a tracked run.
    """

    def __init__(self, stage: str, curves: Observer | None = None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._stage = stage
        self._curves: Observer = curves or Quiet()
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()
        self._bars = Progress(
            TextColumn(f"[bold]{stage}[/] {{task.description}}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )

    @contextmanager
    def live(self) -> Iterator[ConsoleObserver]:
        """Shows the bars for as long as the block lasts."""
        if console.is_terminal:
            with self._bars:
                yield self
        else:
            yield self

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        """Moves the bar of ``label``."""
        if console.is_terminal:
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(label, total=total, note=note)
            self._bars.update(self._tasks[label], completed=done, total=total, note=note)
        elif time.monotonic() - self._last_line > _LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            console.print(f"{self._stage} {label}: {done:g} of {total:g} {note}".rstrip())

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Hands the figures on."""
        self._curves.metrics(values, step)

    def warn(self, message: str) -> None:
        """Prints one sentence."""
        console.print(f"[yellow]{self._stage}: {message}[/]")
