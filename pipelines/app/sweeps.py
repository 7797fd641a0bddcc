"""The jobs of a sweep: each stands alone whatever launches them, and what became of each is told when all are over."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from bort.errors import BortError, ConfigurationError
from bort.files import disk_full, read_json, without_links, write_json, write_text
from bort.redaction import redact

from ..engine.processes import command_line, stop
from ..engine.ranks import follows
from .console import console
from .messages import sentence
from .overrides import FIXED, fixed, quoted, register_resolvers

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Names the folder in which the jobs of a sweep leave word, to every process of the sweep.
FOLDER = "BORT_SWEEP"
#: What a job that a launcher started says and shows.
LOG = "job.log"
_INTERRUPTED = 130


class Job:
    """What Hydra runs: a stage, once or as one job of a sweep.

    With Hydra's own launcher the jobs of a sweep run in this process, one after the other. Any other launcher runs them in
    processes that it would not outlive, so each gets a process of its own below: one that is killed leaves the others alone.

    Args:
        stage: The stage.
        work: Runs it in this process, given the composed configuration.
        tell: Tells a person of an error and returns its sentence.
    """

    def __init__(self, stage: str, work: Callable[[DictConfig], object], tell: Callable[[Exception], str]) -> None:
        self.stage, self._work, self._tell = stage, work, tell
        self.failed = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A launcher's process has to know our resolvers before it can name the job's folder.
        register_resolvers()
        self.__dict__.update(state)

    def __call__(self, composed: DictConfig) -> None:
        """Runs the stage; an error is told, and not raised through Hydra, so that the other jobs of a sweep still run."""
        hydra = HydraConfig.get()
        sweeps = hydra.mode == RunMode.MULTIRUN
        number, named = (hydra.job.num, " ".join(hydra.overrides.task)) if sweeps else (0, "")
        directory = Path(hydra.runtime.output_dir)
        word: dict[str, Any] = {
            "number": number,
            "overrides": redact(named),
            "directory": str(directory),
            "failure": "it was killed",
        }
        if sweeps:
            _leave_word(word)
            _redact_sweep(Path(hydra.sweep.dir))
        if sweeps and not hydra.launcher._target_.endswith(".BasicLauncher"):
            word["failure"] = self._apart(directory, word)
        else:
            word["failure"] = self._here(composed)
        self.failed = self.failed or bool(word["failure"])
        if sweeps and not _leave_word(word) and word["failure"] and not follows():
            # A scheduler that passes no environment on leaves only this way to tell who waits.
            raise BortError(f"{word['directory']}: {word['failure']}")

    def _here(self, composed: DictConfig) -> str:
        try:
            self._work(composed)
        except Exception as error:
            return self._tell(error)
        return ""

    def _apart(self, directory: Path, word: dict[str, Any]) -> str:
        """Runs the stage in a process of its own; returns what went wrong, if anything."""
        overrides = [*HydraConfig.get().overrides.task, f"hydra.run.dir={quoted(str(directory))}"]
        command = command_line(self.stage, overrides)
        environment = {name: value for name, value in os.environ.items() if name != FOLDER}
        started = time.monotonic()
        with open(directory / LOG, "ab", opener=without_links) as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment)
            try:
                status = process.wait()
            finally:
                stop([process])
        failure = _reason(directory / LOG, status) if status else ""
        ended = f"failed: {failure}" if failure else "done"
        console.print(f"job {word['number']} ({word['overrides']}): {ended}, {time.monotonic() - started:.1f} s", markup=False)
        return failure


class Watch(Callback):
    """Folders of a run or a sweep: refused before Hydra makes them, and one in which the jobs of a sweep leave word."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse a folder that cannot be written."""
        composed = HydraConfig.instance()
        before = composed.cfg
        # Hydra does the same to resolve the folder, only later.
        composed.set_config(config)
        try:
            folder = _folder(config.hydra.run)
        finally:
            composed.cfg = before
        _require_writable(folder, config.outputs)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Name the folder of the sweep to the processes that the launcher is about to start."""
        folder = _folder(config.hydra.sweep)
        _require_writable(folder, config.outputs)
        if (folder / "multirun.yaml").is_symlink():
            # Hydra would write through it.
            (folder / "multirun.yaml").unlink()
        folder = folder.absolute() / ".sweeps" / f"{time.time():.0f}-{os.getpid()}"
        folder.mkdir(parents=True)
        os.environ[FOLDER] = str(folder)
        os.environ[FIXED] = " ".join(fixed())


def _folder(config: DictConfig) -> Path:
    """Return the folder of a run or a sweep, or leave with one sentence if it cannot be resolved, as with a name that is a path."""
    try:
        return Path(config.dir)
    except OmegaConfBaseException as error:
        print(f"bort: {sentence(error)}", file=sys.stderr)
        sys.exit(1)


def _require_writable(folder: Path, outputs: str) -> None:
    """Make a folder, or leave with one sentence; Hydra turns an error of a callback into a warning."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        key, value = ("outputs", outputs) if folder.is_relative_to(outputs) else ("hydra.run.dir", str(folder))
        refused = ConfigurationError(key, value, f"a folder that can be written ({error.strerror})")
        print(f"bort: {sentence(error if disk_full(error) else refused)}", file=sys.stderr)
        sys.exit(1)


def tell_of_sweep() -> bool:
    """Tells of every job of a sweep that failed, once all are over; returns whether any did. Nothing is told outside a sweep."""
    folder = Path(os.environ.pop(FOLDER, ""))
    os.environ.pop(FIXED, None)
    if not folder.is_absolute():
        return False
    jobs = sorted((read_json(path) for path in folder.glob("*.json")), key=lambda word: word["number"])
    failed = [word for word in jobs if word["failure"]]
    if failed:
        print(
            f"bort: {len(failed)} of the {len(jobs)} jobs of the sweep failed. The same command does what is missing.",
            file=sys.stderr,
        )
        for word in failed:
            print(f"  job {word['number']} ({word['overrides']}), in {word['directory']}: {word['failure']}", file=sys.stderr)
    for path in folder.glob("*.json"):
        path.unlink()
    _redact_sweep(folder.parents[1])
    with suppress(OSError):
        # Another sweep may be under way in the same place.
        folder.rmdir()
        folder.parent.rmdir()
    return bool(failed)


def _leave_word(word: dict[str, Any]) -> bool:
    folder = os.environ.get(FOLDER)
    if not folder or follows():
        return False
    write_json(Path(folder) / f"{word['number']}.json", word)
    return True


def _redact_sweep(folder: Path) -> None:
    """Strikes passwords out of the copy of the sweep's configuration that Hydra keeps."""
    path = folder / "multirun.yaml"
    if path.exists():
        text = path.read_text(encoding="utf-8")
        if redact(text) != text:
            write_text(path, redact(text))


def _reason(log: Path, status: int) -> str:
    """Returns the sentence that a process left at the end of its log, or how it ended."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line.removeprefix("bort: ") for line in lines if line.startswith("bort: ") and "not foreseen" not in line]
    if status < 0:
        return f"it was killed by signal {-status}"
    if status == _INTERRUPTED:
        return "it was interrupted"
    return told[-1] if told else f"it ended with status {status}; {log} says why"
