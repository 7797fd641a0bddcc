"""How processes that this one has started are ended."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

#: Seconds that a process which was told to stop is given.
_GRACE_SECONDS = 10.0


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
