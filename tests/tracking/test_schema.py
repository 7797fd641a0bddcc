"""A database that the installed MLflow cannot read is told before anything is sent to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow

from bort.tracking.config import TrackingConfig
from bort.tracking.schema import unreadable
from bort.tracking.tracker import Tracker


def database(file: Path, revision: str) -> Path:
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("CREATE TABLE alembic_version (version_num TEXT)")
        opened.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    return file


def test_a_newer_schema_is_named(tmp_path: Path) -> None:
    why = unreadable(database(tmp_path / "mlflow.db", "0123456789ab"))
    assert why is not None
    assert f"has the schema 0123456789ab, which MLflow {mlflow.__version__} does not know" in why


def test_what_is_known_new_or_no_database_is_left_to_mlflow(tmp_path: Path) -> None:
    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    for number, file in enumerate(sorted(migrations.glob("*.py"))[::10]):
        assert unreadable(database(tmp_path / f"{number}.db", file.name.partition("_")[0])) is None
    assert unreadable(tmp_path / "missing.db") is None
    (tmp_path / "text.db").write_text("no database at all, but long enough to be taken for the head of one" * 20)
    assert unreadable(tmp_path / "text.db") is None
    assert not (tmp_path / "missing.db").exists()


def test_what_was_recorded_is_kept_when_the_store_cannot_be_read(tmp_path: Path) -> None:
    uri = f"sqlite:///{database(tmp_path / 'mlflow.db', 'ffffffffffff')}"
    with Tracker(TrackingConfig(uri=uri), tmp_path / "spool") as tracker, tracker.run("one", key="one") as run:
        run.metrics({"w": 1.0})
    report = tracker.sync()
    assert report.error is not None
    assert "ffffffffffff" in report.error
    assert report.delivered == 0
    assert b'"w"' in next((tmp_path / "spool").glob("*.jsonl")).read_bytes()
