"""Addresses and secrets from the environment, and that none of them shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose

from bort.errors import ConfigurationError
from pipelines.app.environment import CONF, from_environment
from pipelines.app.overrides import slug
from pipelines.engine.schema import Config, plain, typed

SECRET = "pl4nted-s3cret"


@pytest.fixture
def composed(composing: None) -> object:
    return lambda stage, *overrides: typed(compose(stage, overrides=list(overrides)))


def test_a_variable_goes_before_its_file_and_both_before_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file\n")
    monkeypatch.delenv("BORT_X", raising=False)
    assert from_environment("BORT_X") == ""
    assert from_environment("BORT_X", "default") == "default"
    monkeypatch.setenv("BORT_X_FILE", str(file))
    assert from_environment("BORT_X", "default") == "from the file"
    monkeypatch.setenv("BORT_X", "from the variable")
    assert from_environment("BORT_X", "default") == "from the variable"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content:
        file.write_bytes(content)
    monkeypatch.setenv("BORT_X_FILE", str(file))
    with pytest.raises(ConfigurationError, match=r"BORT_X_FILE=.*a file that can be read"):
        from_environment("BORT_X")


def test_servers_are_found_by_their_variables(composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BORT_STORAGE_URL", "BORT_STORAGE_URL_FILE", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI_FILE"):
        monkeypatch.delenv(name, raising=False)
    unset: Config = composed("search", "storage=postgres", "tracking=server")
    assert (unset.storage.url, unset.tracking.uri) == ("", "http://127.0.0.1:5000")
    file = tmp_path / "url"
    file.write_text(f"postgresql://bort:{SECRET}@db/optuna\n")
    monkeypatch.setenv("BORT_STORAGE_URL_FILE", str(file))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    given: Config = composed("search", "storage=postgres", "tracking=server", "name=mine")
    assert given.storage.url == f"postgresql://bort:{SECRET}@db/optuna"
    assert given.storage.study == "mine"
    assert given.tracking.uri == "http://mlflow:5000"
    assert SECRET not in str(plain(given))


def test_a_run_is_not_named_after_where_its_study_is_kept() -> None:
    assert slug(["experiment=demo", "storage=postgres", "storage.url=postgresql://h/d", "tracking=server", "impl.workers=1"]) == ""


def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    (tmp_path / "url").write_text(f"postgresql://bort:{SECRET}@127.0.0.1:1/optuna")
    command = [sys.executable, "-m", "pipelines", "search", "error=proxy", "storage=postgres", "tracking=off"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BORT_STORAGE")}
    environment |= {"PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1"}
    told = [
        subprocess.run(command, cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=120)
        for more in ({"BORT_STORAGE_URL_FILE": str(tmp_path / "url")}, {})
    ]
    (tmp_path / "url").unlink()
    assert [run.returncode for run in told] == [1, 1]
    assert "storage.url=postgresql://bort:***@127.0.0.1:1/optuna is invalid" in told[0].stderr
    assert "here or in BORT_STORAGE_URL" in told[1].stderr
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET in text for text in (told[0].stdout, told[0].stderr, *written))
