"""What `bort ui` refuses before it starts a server, and that none outlives it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipelines import ui


def told(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["bort ui", *arguments])
    with pytest.raises(SystemExit) as ended:
        ui.main()
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_a_folder_without_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Nothing is recorded yet" in told([str(tmp_path)], monkeypatch, capsys)


def test_a_store_that_a_newer_mlflow_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    assert "has the schema ffffffffffff, which MLflow" in told([str(tmp_path)], monkeypatch, capsys)


def test_a_study_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").touch()
    missing = tmp_path / "study.journal"
    assert f"There is no study in {missing}" in " ".join(
        told([str(tmp_path), "--study", str(missing)], monkeypatch, capsys).split()
    )
    assert not missing.exists()


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port}" in told([str(tmp_path), "--port", str(port)], monkeypatch, capsys)


@pytest.mark.parametrize("port", [80_000, 65_535, 0, -1])
def test_a_port_that_no_machine_has(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").touch()
    sentence = told([str(tmp_path), "--port", str(port)], monkeypatch, capsys)
    assert sentence.startswith(f"bort: --port={port} ")
    assert "[1, 65534]" in sentence


def session(leader: int) -> dict[int, str]:
    """Returns the command lines of the living processes that a process started, itself and their children included."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == leader and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def free_port() -> int:
    """Returns a port that is free, and the next one, too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except (OSError, OverflowError):
                continue
            return port


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to see the servers in")
def test_a_request_to_end_ends_the_servers(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    journal = tmp_path / "run" / "search" / "study.journal"
    journal.parent.mkdir(parents=True)
    journal.write_text(json.dumps({"op_code": 0, "worker_id": "w", "study_name": "search", "directions": [2]}) + "\n")
    wanted = ["mlflow server"]
    if importlib.util.find_spec("optuna_dashboard"):
        wanted.append("pipelines.dashboard")
    command = [sys.executable, "-m", "pipelines.ui", str(tmp_path), "--port", str(free_port())]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], start_new_session=True, stdout=log, stderr=log)
    try:
        ends = time.monotonic() + 20
        while not all(any(name in line for line in session(process.pid).values()) for name in wanted):
            if process.poll() is not None or time.monotonic() > ends:
                told = (tmp_path / "log").read_text()
                assert "bort:" not in told
                pytest.skip(f"MLflow's server cannot be started here: {told[-500:]}")
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        # A dashboard's worker that had only just begun sees within a second that it was left.
        ends = time.monotonic() + 5
        while session(process.pid) and time.monotonic() < ends:
            time.sleep(0.1)
        assert session(process.pid) == {}
    finally:
        for number in session(process.pid):
            os.kill(number, signal.SIGKILL)
