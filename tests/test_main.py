"""`python -m bort` in a clone, which the console script is, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bort

COMMAND = [sys.executable, "-m", "bort"]


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return kept | {"PYTHONPATH": str(Path(bort.__file__).parents[1])}


def test_main_beside_own_packages_runs_the_commands(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("conf", "pipelines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('raise ImportError("the user\'s own")\n')
    for arguments, start in ((["--version"], bort.__version__), (["search", "--cfg", "job"], "name: default")):
        done = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(start)


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--cfg", "job"]], ids=" ".join)
def test_main_closed_output_ends_quietly(arguments: list[str], environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, *arguments], env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_main_help_takes_at_most_a_second_of_processor_time(environment: dict[str, str]) -> None:
    process = subprocess.Popen([*COMMAND, "--help"], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime <= 1
