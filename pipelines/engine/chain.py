"""How a stage is run: its needs first, then itself, unless its record says that it is done."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.errors import ConfigurationError
from bort.locks import exclusive
from bort.record import StageDirectory, holds
from bort.tracking.pending import deliver_left, first_free
from bort.tracking.tracker import Recording, TrackedRun, Tracker

from ..app.console import ConsoleObserver, console
from ..app.overrides import command, overridden, swept
from .ranks import companions, follows
from .schema import Config, chosen
from .stage import Run, Stage, load

#: Parameters that stages record by themselves, under names that are also those of choices.
_OWN_PARAMETERS = ("seed", "teacher", "task", "strategy")
#: Letters of what a run was told, in its name.
_LONGEST = 60


class Chain:
    """Runs stages below one root folder, each at most once in a process.

    Args:
        config: The whole configuration.
        target: The stage that the user asked for.
        directory: Where that stage writes; the stages it needs write below ``config.root``.
    """

    def __init__(self, config: Config, target: str, directory: Path) -> None:
        if follows():
            # The first of the processes that share a training says and records all that there is to say.
            config, console.quiet = replace(config, tracking=replace(config.tracking, enabled=False)), True
        self.config, self.target, self.directory = config, target, directory
        self._records: dict[str, StageDirectory] = {}
        self._results: dict[str, dict[str, Any]] = {}

    def run(self) -> dict[str, Any]:
        """Runs the target and all it needs, and delivers what was tracked.

        Every stage is checked, and every folder's record compared with what is asked, before the first one starts.

        Raises:
            BortError: A stage refused its configuration, or could not do its work.
        """
        order = self._order(self.target)
        # The stage that was asked for speaks first: its own settings are what the user has in mind.
        for name in reversed(order):
            load(name).check(self.config)
        if self.config.record:
            _check_record(self.target, self.config.record)
        for name in order:
            self._records[name] = self._record(name)
        spool = self.directory / "tracking"
        with (
            first_free(spool) as name,
            Tracker(self.config.tracking, spool, observer=ConsoleObserver("tracking"), name=name) as tracker,
        ):
            try:
                result = self._perform(self.target, tracker, None)
                if self.config.record and not follows():
                    _record(self._records[self.target].path, self.config.record)
                return result
            finally:
                if tracker.sync().error is None:
                    deliver_left(self.config.tracking, spool, tracker.observer)

    def _order(self, name: str) -> list[str]:
        order: list[str] = []
        for need in load(name).needs(self.config):
            order += [item for item in self._order(need) if item not in order]
        return [*order, name]

    def _record(self, name: str) -> StageDirectory:
        stage = load(name)
        inputs = {need: self._records[need].digest for need in stage.needs(self.config)} | dict(stage.sources(self.config))
        settings = chosen(self.config, stage.settings(self.config))
        if name == self.target:
            return StageDirectory(self.directory, name, settings, inputs)
        # What the overrides of this run do not touch, the run without them may have done already.
        shared = Path(self.config.outputs) / self.config.name / name
        if holds(shared, name, settings, inputs):
            return StageDirectory(shared, name, settings, inputs)
        return StageDirectory(Path(self.config.root) / name, name, settings, inputs)

    def _perform(self, name: str, tracker: Tracker, parent: TrackedRun | None) -> dict[str, Any]:
        if name in self._results:
            return self._results[name]
        stage, record = load(name), self._records[name]
        if _done(record):
            if parent:
                tracker.adopt(record.key, parent)
        else:
            circumstances = {"command": command(self.target), "machine": _machine(self.config)}
            record.begin(**circumstances)
            tracked = tracker.run(self._title(name), key=record.key, parent=parent, tags={"bort.stage": name})
            if name == self.target:
                told = dict(item.lstrip("+~").split("=", 1) for item in overridden() if "=" in item)
                tracked.params({key: value for key, value in told.items() if key not in _OWN_PARAMETERS})
            inputs = {need: self._perform(need, tracker, parent or tracked) for need in stage.needs(self.config)}
            helping = stage.joint and follows()
            with exclusive(record.path, wait=not (stage.shared or helping)):
                record.begin(**circumstances)
                if not _done(record):
                    observer = ConsoleObserver(name)
                    recording = Recording(tracked, observer)
                    manifests = {need: self._records[need].manifest for need in inputs}
                    run = Run(self.config, record.path, recording, observer, inputs, tracked, tracker, record.digest, manifests)
                    with tracked, observer.live():
                        if helping:
                            return stage.work(run)
                        # Several machines need a launcher that knows them.
                        here = self.config.impl.devices if stage.joint and self.config.impl.nodes == 1 else 1
                        with companions(name, here, record.path):
                            _work(stage, run, record)
        result = self._results[name] = record.result()
        console.print(stage.show(result))
        console.print(f"[dim]{name}: {record.seconds:.1f} s, in {record.path}[/]\n", soft_wrap=True)
        return result

    def _title(self, name: str) -> str:
        """Returns what a stage's run is called: whose it is, and what the target was told, so that a sweep's can be told apart."""
        varied, told = (swept(), overridden()) if name == self.target else ([], [])
        words = ", ".join(varied or told)
        words = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1].rstrip()}…"
        whose = f"{self.config.name} {name}"
        # MLflow's table shows the first twenty letters or so: of a sweep, those have to differ.
        return f"{words} · {whose}" if varied else " ".join(part for part in (whose, words) if part)


def _done(record: StageDirectory) -> bool:
    """Whether there is nothing left to do: what a stage keeps in the cache must still be there, too."""
    return record.done and Path(record.result().get("directory", record.path)).is_dir()


def _machine(config: Config) -> dict[str, Any]:
    from bort.measure.environment import environment

    # The load of the moment says nothing of a stage that runs for hours.
    return {name: value for name, value in environment(config.impl.threads).items() if name != "load"}


def _check_record(stage: str, file: str) -> None:
    from bort.report.evidence import KEPT

    if stage not in KEPT:
        raise ConfigurationError("record", file, f"null for {stage}: records are kept of {', '.join(KEPT)}")
    if Path(file).suffix != ".json" or Path(file).is_dir():
        raise ConfigurationError("record", file, "the name of a .json file")


def _record(folder: Path, file: str) -> None:
    from bort.report.evidence import write_record

    write_record(file, folder)
    console.print(f"[dim]recorded in {file}[/]", soft_wrap=True)


def _work(stage: Stage, run: Run, record: StageDirectory) -> None:
    started = time.monotonic()
    run.tracked.params({"seed": run.config.seed})
    try:
        result = stage.work(run)
    finally:
        record.add_seconds(time.monotonic() - started)
    again = command(stage.name)
    run.tracked.describe("\n\n".join(part for part in (stage.headline(result), f"`{again}`" if again else "") if part))
    run.tracked.metrics({"seconds": record.seconds})
    record.finish({**result, "stage_seconds": record.seconds})
    run.tracked.artifact(record.path / "result.json")
