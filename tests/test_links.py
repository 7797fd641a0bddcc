"""A symbolic link in a folder of results is not written through: the file that it leads to stays as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from bort.corpus.shards import _append
from bort.curve import Curve
from bort.errors import BortError, RecordError
from bort.files import drop_torn_line, without_links
from bort.finetuning.search import _study
from bort.locks import exclusive
from bort.observer import Quiet
from bort.search.storage.config import JournalStorageConfig, SqliteStorageConfig
from bort.tracking.config import TrackingConfig
from bort.tracking.delivery import Delivery
from bort.tracking.pending import first_free, held
from bort.tracking.spool import Spool
from bort.tracking.tracker import Tracker
from pipelines.app.main import entry

#: Without an end of line, so that whatever cuts off torn lines would empty it.
CANARY = "somebody else's file"


def _spool(folder: Path) -> None:
    Spool(folder / "worker-0.jsonl").append({"event": "x"})


def _claim(folder: Path) -> None:
    with held(folder / "worker-0.jsonl"):
        pass


def _first(folder: Path) -> None:
    with first_free(folder):
        pass


def _deliver(folder: Path) -> None:
    spool = Spool(folder / "own.jsonl")
    spool.append({"event": "x"})
    Delivery(TrackingConfig(uri="http://127.0.0.1:9"), spool, Quiet()).run()


def _tracker(folder: Path) -> None:
    Tracker(TrackingConfig(uri="http://127.0.0.1:9"), folder, name="worker-0").run("x", key="x")


def _lock(folder: Path) -> None:
    with exclusive(folder):
        pass


def _write(path: Path, mode: str) -> None:
    with open(path, mode, opener=without_links) as file:
        file.write(b"x")


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "spool": ("worker-0.jsonl", _spool),
    "tracker": ("worker-0.jsonl", _tracker),
    "spool lock": ("worker-0.lock", _claim),
    "first spool": ("worker-0.lock", _first),
    "delivery lock": ("delivery.lock", _deliver),
    "stage lock": (".lock", _lock),
    "journal": ("study.journal", lambda folder: JournalStorageConfig().open(folder)),
    "journal to read": ("study.journal", lambda folder: JournalStorageConfig().open_to_read(folder)),
    "journal lock": ("study.journal.lock-study", lambda folder: JournalStorageConfig().open(folder)),
    "database": ("study.db", lambda folder: SqliteStorageConfig().open(folder)),
    "trials": ("trials.journal", lambda folder: _study(folder / "trials.journal", "x")),
    "torn line": ("a.journal", lambda folder: drop_torn_line(folder / "a.journal")),
    "shard": ("tokens", lambda folder: _append(folder / "tokens", 0, np.zeros(4))),
    "log": ("worker-1.log", lambda folder: _write(folder / "worker-1.log", "ab")),
    "truncated": ("a", lambda folder: _write(folder / "a", "wb")),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("dangling", [False, True])
def test_link_in_results_is_not_written_through(writer: str, dangling: bool, tmp_path: Path) -> None:
    name, write = WRITERS[writer]
    canary = tmp_path / "canary"
    if not dangling:
        canary.write_text(CANARY)
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / name).symlink_to(canary)
    if writer in ("torn line", "shard") and dangling:
        # Neither creates a file through it.
        with suppress(RecordError, FileExistsError):
            write(folder)
    else:
        with pytest.raises(RecordError, match="symbolic link"):
            write(folder)
    assert canary.exists() != dangling
    assert dangling or canary.read_text() == CANARY


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("tracking", lambda folder: _spool(folder / "tracking")),
        ("tracking", lambda folder: _first(folder / "tracking")),
        ("study.journal.claims", lambda folder: JournalStorageConfig().open(folder)),
        ("study.db.claims", lambda folder: SqliteStorageConfig().open(folder)),
    ],
)
def test_linked_folder_in_results_is_not_written_into(name: str, write: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="symbolic link"):
        write(tmp_path / "results")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_curve_replaces_a_link(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text(CANARY)
    (tmp_path / "curve.jsonl").symlink_to(tmp_path / "canary")
    curve = Curve(tmp_path / "curve.jsonl", 0)
    curve.add(1, {"a": 1.0})
    curve.close()
    assert (tmp_path / "canary").read_text() == CANARY


@pytest.mark.parametrize("text", [CANARY, f"{CANARY}\nmore", "{}\n{}"])
def test_file_that_is_no_journal_is_not_truncated(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(BortError, match=r"storage\.path"):
        JournalStorageConfig(path=str(path)).open(tmp_path)
    assert path.read_text() == text


@pytest.mark.parametrize("sweep", [False, True])
def test_command_in_a_folder_of_links_changes_no_target(
    sweep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    space = ["depth=[1,2]", "heads=[2]", "hidden=[8,16]", "intermediate=[16]", "maximum_point=6-4-64-256"]
    settings = ["error=proxy", "tracking=off", *(f"search_space.{item}" for item in space)]
    canaries = []
    names = ["multirun.yaml"] if sweep else ["manifest.json", "result.json", ".lock", "study.journal", "tracking/worker-0.lock"]
    monkeypatch.chdir(tmp_path)
    varied = ["-m", "seed=0"] if sweep else [f"hydra.run.dir={tmp_path / 'outputs' / 'run'}"]
    for number, name in enumerate(names):
        link = tmp_path / "outputs" / ("default" if sweep else "run") / name
        link.parent.mkdir(parents=True, exist_ok=True)
        canaries.append(tmp_path / f"canary-{number}")
        canaries[-1].write_text(CANARY)
        link.symlink_to(canaries[-1])
    monkeypatch.setattr(sys, "argv", ["bort search", *varied, *settings])
    try:
        entry("search")()
    except SystemExit:
        assert "Traceback" not in capfd.readouterr().err
    assert [path.read_text() for path in canaries] == [CANARY] * len(canaries)
