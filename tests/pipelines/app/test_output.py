"""A planted secret is printed in every way there is; none may reach the terminal, a pipe or a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.app.environment import CONF

_PRINTS = """
import ctypes, logging, os, sys
from pipelines.app.output import know, redacted_output
with redacted_output():
    know(["told afterwards"])
    print("python hunter2 planted told afterwards")
    print("error hunter2 planted", file=sys.stderr)
    os.write(1, b"descriptor hunter2 planted\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"library hunter2 planted")
    libc.fflush(None)
    os.system("echo child $PLANTED_PASSWORD; printf 'no end of line %s' \\"$PLANTED_PASSWORD\\" >&2")
    {end}
print("after")
"""


def _run(end: str = "pass", **streams: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "PLANTED_PASSWORD": "hunter2 planted"}
    command = [sys.executable, "-c", _PRINTS.format(end=end)]
    return subprocess.run(command, env=environment, text=True, timeout=60, **streams)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("end", "status"), [("pass", 0), ("os._exit(3)", 3), ("os.kill(os.getpid(), 9)", -9), ("raise OSError", 1)]
)
def test_secret_printed_anywhere_is_redacted_whatever_ends(end: str, status: int) -> None:
    done = _run(f"sys.stdout.flush(); {end}", capture_output=True)
    assert done.returncode == status
    assert "planted" not in done.stdout + done.stderr
    assert "told afterwards" not in done.stdout
    for line in ("python *** ***", "descriptor ***", "library ***", "child ***"):
        assert f"{line}\n" in done.stdout
    assert "error ***\n" in done.stderr
    assert "no end of line ***" in done.stderr
    assert ("after" in done.stdout) is (status == 0)


def test_streams_of_one_file_keep_their_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    loop = "[(os.write(1, b'%d\\n' % n), os.write(2, b'%d\\n' % n)) for n in range(500)]"
    with log.open("wb") as file:
        assert _run(loop, stdout=file, stderr=subprocess.STDOUT).returncode == 0
    numbers = [line for line in log.read_text().replace("no end of line ***", "").splitlines() if line.isdigit()]
    assert numbers == [str(number) for number in range(500) for _ in range(2)]


def test_reader_that_leaves_early_breaks_the_pipe() -> None:
    command = "while True: print('x' * 1000)"
    reader = subprocess.run(
        [sys.executable, "-c", f"from pipelines.app.output import redacted_output\nwith redacted_output():\n    {command}"],
        env={**os.environ, "PYTHONPATH": str(CONF.parent)}, stdout=_closed(), stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    assert "BrokenPipeError" in reader.stderr


def _closed() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing
