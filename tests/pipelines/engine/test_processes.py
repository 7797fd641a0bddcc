"""The processes that a stage has started end with it, whether they listen or not."""

from __future__ import annotations

import signal
import subprocess
import sys

from pipelines.engine.processes import stop

WAITS = "print(flush=True); import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


def started(program: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_what_does_not_stop_in_time_is_killed_and_what_has_ended_is_left_alone() -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(3)"])
    ended.wait()
    processes = [started(WAITS), ended, started(DEAF)]
    try:
        stop(processes, grace=0.5)
        assert [process.returncode for process in processes] == [-signal.SIGTERM, 3, -signal.SIGKILL]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
