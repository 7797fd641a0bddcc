"""What `bort ui` refuses before it starts a server."""

from __future__ import annotations

import socket
import sqlite3
import sys
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
