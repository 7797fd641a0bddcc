"""Whether the installed MLflow can read a database, told before MLflow is started on it."""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing
from importlib import metadata
from pathlib import Path

_MIGRATIONS = Path("store", "db_migrations", "versions")


def unreadable(file: Path) -> str | None:
    """Returns why MLflow cannot read a sqlite database, in a sentence; None where it can, or makes it anew.

    Args:
        file: The database.
    """
    revision = _revision(file)
    known = _known()
    if revision is None or not known or revision in known:
        return None
    return (
        f"{file} has the schema {revision}, which MLflow {metadata.version('mlflow')} does not know: a newer MLflow wrote it; "
        "install that one, or record elsewhere with tracking.uri=…"
    )


def _revision(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        # Not a database of MLflow's, or an empty one: MLflow itself says what it thinks of that.
        return None
    return str(row[0]) if row else None


def _known() -> set[str]:
    """Returns the revisions that the installed MLflow can migrate from; each is a file that begins with its name."""
    found = importlib.util.find_spec("mlflow")
    folder = Path(found.origin).parent / _MIGRATIONS if found and found.origin else None
    return {file.name.partition("_")[0] for file in folder.glob("*.py")} if folder and folder.is_dir() else set()
