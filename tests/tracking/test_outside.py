"""A spool that comes from elsewhere cannot have files delivered that are none of its results."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.tracking.config import TrackingConfig
from bort.tracking.sink import MlflowSink


@pytest.fixture
def sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowSink:
    spool = tmp_path / "outputs" / "run" / "search" / "tracking"
    spool.mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    # Without a client: nothing is delivered here.
    made = object.__new__(MlflowSink)
    made._config, made._root = TrackingConfig(), spool
    return made


@pytest.mark.parametrize("name", ["../result.json", "../../corpus/result.json", "{}/outputs/run/search/a.json", "{}/here/b.json"])
def test_results_are_delivered(name: str, sink: MlflowSink, tmp_path: Path) -> None:
    named = name.format(tmp_path)
    path = sink._root / named
    path.parent.mkdir(parents=True, exist_ok=True)
    path.resolve().write_text("{}")
    assert sink._existing({"path": named}) == path.resolve()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../secret", "{}/secret", "../link"])
def test_other_files_are_refused(name: str, sink: MlflowSink, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (sink._root.parent / "link").symlink_to(tmp_path / "secret")
    refused: list[str] = []
    sink._attempt(refused, "artifact x", sink._existing, {"path": name.format(tmp_path)})
    assert refused == ["artifact x lies outside the results"]
