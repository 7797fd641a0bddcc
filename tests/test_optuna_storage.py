"""Studies that another version of Optuna wrote, in each kind of storage: told in a sentence, by the search and by fine-tuning."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from bort.errors import ConfigurationError
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.search import search_theta
from bort.optuna_storage import newer_journal
from bort.search.storage.config import JournalStorageConfig, PostgresStorageConfig, SqliteStorageConfig

NEWER, OLDER = "v99.0.0.a", "v2.6.0.a"


def journal(path: Path, *operations: object) -> Path:
    path.write_text("".join(json.dumps(operation) + "\n" for operation in operations))
    return path


def database(path: Path, schema: str) -> Path:
    """Returns a database of Optuna's, as one with another schema would have left it."""
    optuna.create_study(storage=f"sqlite:///{path}", study_name="s")
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = ?", (schema,))
    return path


def tuned(storage: Path | str, folder: Path) -> None:
    search_theta(FinetuningConfig(), lambda *_: None, seed=1, storage=storage, locks=folder / "locks", name="s", primary="accuracy")


def searched(path: Path, folder: Path) -> None:
    JournalStorageConfig(path=str(path)).open(folder)


@pytest.mark.parametrize("use", [searched, tuned])
def test_a_journal_with_an_operation_of_a_newer_optuna(use: Callable[[Path, Path], None], tmp_path: Path) -> None:
    create = {"op_code": 0, "worker_id": "w", "study_name": "s", "directions": [1]}
    path = journal(tmp_path / "study.journal", create, {"op_code": 99, "worker_id": "w"}, {**create, "study_name": "t"})
    kept = path.read_bytes()
    with pytest.raises(ConfigurationError, match=rf"operation 99, which Optuna {optuna.__version__} does not know: a newer Optuna"):
        use(path, tmp_path)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("use", [searched, tuned])
def test_a_journal_that_is_none(use: Callable[[Path, Path], None], tmp_path: Path) -> None:
    path = journal(tmp_path / "study.journal", {"op_code": 0, "worker_id": "w"})
    assert newer_journal(path) is None
    with pytest.raises(ConfigurationError, match="an intact Optuna journal"):
        use(path, tmp_path)


@pytest.mark.parametrize(("schema", "mend"), [(NEWER, "a newer Optuna made them"), (OLDER, "`optuna storage upgrade`")])
def test_a_database_with_another_schema(schema: str, mend: str, tmp_path: Path) -> None:
    path = database(tmp_path / "study.db", schema)
    kept = path.read_bytes()
    told = rf"{path} is invalid: .* Optuna {optuna.__version__} reads; its tables have the schema {schema}: {mend}"
    with pytest.raises(ConfigurationError, match=rf"storage\.path={told}"):
        SqliteStorageConfig(path=str(path)).open(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"storage=sqlite:///{told}"):
        tuned(f"sqlite:///{path}", tmp_path)
    assert path.read_bytes() == kept


def test_a_server_with_a_newer_schema(postgres_url: str, tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg")
    storage = PostgresStorageConfig(url=postgres_url)
    storage.open(tmp_path).close()

    def stamp(schema: str) -> str:
        with psycopg.connect(postgres_url) as opened:
            (there,) = opened.execute("SELECT version_num FROM alembic_version").fetchone()
            opened.execute("UPDATE alembic_version SET version_num = %s", (schema,))
        return str(there)

    readable = stamp(NEWER)
    try:
        with pytest.raises(ConfigurationError, match=rf"storage\.url=.*schema {readable}, .* tables have the schema {NEWER}"):
            storage.open(tmp_path)
    finally:
        stamp(readable)
    storage.open(tmp_path).close()
