"""Start further processes of a command, and end them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence

#: Seconds that a process which was told to stop is given.
_GRACE_SECONDS = 10.0


def command_line(stage: str, overrides: Sequence[str]) -> list[str]:
    """Return the command line of a process that runs a stage, wherever the package is installed."""
    return [sys.executable, "-m", "bort", *stage.split("_"), *overrides]


def stop(processes: Iterable[subprocess.Popen[bytes]], grace: float = _GRACE_SECONDS) -> None:
    """Tells those that still run to stop, all at once; kills what has not ended ``grace`` seconds later."""
    started = list(processes)
    for process in started:
        if process.poll() is None:
            process.terminate()
    for process in started:
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
