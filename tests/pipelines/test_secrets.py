"""A planted password is looked for in everything that stages leave and say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipelines.app.main import entry
from tests.pipelines.test_composition import run

PASSWORD = "hunter2/xyzzy@secret"
#: As an address has to hold it, and as people write it.
ADDRESSED = quote(PASSWORD, safe="")
SEARCH = [
    "error=proxy",
    "search_space.depth=[1,2]",
    "search_space.heads=[2]",
    "search_space.hidden=[8,16]",
    "search_space.intermediate=[16]",
    "search_space.maximum_point=6-4-64-256",
]
POSTGRES = f"storage.url=postgresql://bort:{ADDRESSED}@127.0.0.1:9/optuna"
SERVER = f"tracking.uri=http://bort:{ADDRESSED}@127.0.0.1:9/mlflow"


def left(place: Path, *said: str) -> list[str]:
    """Returns where the password stands, in any spelling: in files of any kind, their names, and in what was said."""
    marks = [mark.encode() for mark in (PASSWORD, ADDRESSED, "xyzzy")]
    found = [f"said: {text}" for text in said if any(mark.decode() in text for mark in marks)]
    for path in place.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if any(mark in content or mark in str(path.relative_to(place)).encode() for mark in marks):
            found.append(str(path))
    return found


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs `bort search` in this process, where all is imported already; returns status, output and errors."""

    def run(*overrides: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bort search", *SEARCH, *overrides])
        monkeypatch.chdir(tmp_path)
        status = 0
        try:
            entry("search")()
        except SystemExit as ended:
            status = int(ended.code or 0)
        return (status, *capfd.readouterr())

    return run


@pytest.mark.parametrize(
    ("overrides", "status"),
    [
        # A tracking server that is not there: all goes to the spool, and the run goes on.
        ([SERVER], 0),
        # A setting that is recorded, in manifests and in MLflow's database.
        ([f"needs=https://bort:{ADDRESSED}@example.org/x"], 0),
        # Errors: a database that does not answer, addresses that cannot be used, overrides that cannot be read.
        (["storage=postgres", POSTGRES], 1),
        (["storage=postgres", f"storage.url='ftp://bort:{PASSWORD}@127.0.0.1/x'"], 1),
        ([f"tracking.uri=ftp://bort:{ADDRESSED}@127.0.0.1/x"], 1),
        (["storage=postgres", f"{POSTGRES}?a=b;c"], 1),
        (["storage=postgres", POSTGRES.replace("url", "urll")], 1),
        (["storage=postgres", POSTGRES, "seed=many"], 1),
    ],
)
def test_a_planted_password_is_nowhere(overrides: list[str], status: int, search: Any, tmp_path: Path) -> None:
    ended, said, told = search(*overrides)
    assert ended == status, told
    assert "not foreseen" not in told
    assert left(tmp_path, said, told) == []


def test_the_traceback_hides_it_too(search: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORT_TRACEBACK", "1")
    _, said, told = search("storage=postgres", POSTGRES)
    assert "Traceback" in told
    assert left(tmp_path, said, told) == []


@pytest.mark.slow
def test_a_sweep_keeps_no_password_either(tmp_path: Path) -> None:
    done = run("search", "-m", *SEARCH, "seed=1,2", SERVER, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert left(tmp_path, done.stdout, done.stderr) == []
    assert len(list(tmp_path.rglob("result.json"))) == 2
