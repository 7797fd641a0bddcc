from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.errors import ConfigurationError
from bort.redaction import redact
from bort.settings import check_settings
from bort.tracking.config import TrackingConfig


@pytest.mark.parametrize(
    "uri", ["mlruns", "file:///tmp/runs", "sqlite://", "sqlite:///", "ftp://host/x", "", "http://[", "http://host:no"]
)
def test_addresses_mlflow_cannot_use_are_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match=r"tracking\.uri"):
        check_settings(TrackingConfig(uri=uri), "tracking")
    check_settings(TrackingConfig(uri=uri, enabled=False), "tracking")


def test_other_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match=r"tracking\.experiment"):
        check_settings(TrackingConfig(experiment=" "), "tracking")
    with pytest.raises(ConfigurationError, match=r"tracking\.timeout"):
        check_settings(TrackingConfig(timeout=0), "tracking")


def test_a_refused_address_shows_no_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_settings(TrackingConfig(uri="http://me:planted-secret@[host/x"), "tracking")
    assert "planted-secret" not in str(refused.value)


def test_sqlite_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrackingConfig(uri="sqlite:///outputs/mlflow.db?timeout=3")
    assert config.sqlite_file() == tmp_path / "outputs" / "mlflow.db"
    assert config.absolute_uri() == f"sqlite:///{tmp_path}/outputs/mlflow.db?timeout=3"
    assert TrackingConfig(uri="sqlite:////data/m.db").sqlite_file() == Path("/data/m.db")
    assert TrackingConfig(uri="http://localhost:5000").sqlite_file() is None


def test_hosts_are_known_with_their_usual_port() -> None:
    assert TrackingConfig(uri="http://here:5000").host() == ("here", 5000)
    assert TrackingConfig(uri="postgresql+psycopg://me:pw@db/mlflow").host() == ("db", 5432)
    assert TrackingConfig().host() is None


PASSWORDS = st.text(alphabet=st.characters(categories=["L", "N"], include_characters=":!$%^*-_.@"), min_size=8)


@given(PASSWORDS.filter(lambda text: "***" not in text))
def test_passwords_do_not_survive(password: str) -> None:
    shown = redact(f"could not reach postgresql+psycopg://me:{password}@db:5432/mlflow (password={password}) twice")
    assert password not in shown
    assert "me:***@db:5432/mlflow" in shown


def test_text_without_secrets_is_left_alone() -> None:
    text = "D4-A8-H1024-I768 at http://localhost:5000/x?a=b, ratio 3:4 @ 5"
    assert redact(text) == text
