"""A spool that comes from elsewhere sends no file that is none of its results, and to no store of its choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bort.files import read_json
from bort.observer import Quiet
from bort.tracking.config import TrackingConfig
from bort.tracking.delivery import Delivery
from bort.tracking.pending import deliver, waiting
from bort.tracking.spool import Spool
from bort.tracking.staging import OutsideError, Results, staged
from bort.tracking.tracker import Tracker

SECRET = "planted-secret"


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server that notes every request; yields its address and the requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _note(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            requests.append(f"{self.path} {body.decode(errors='replace')}")
            self.send_response(500)
            self.end_headers()

        do_GET = do_POST = do_PUT = do_PATCH = _note

        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}", requests
    serving.shutdown()
    serving.server_close()


def stranger(folder: Path, store: str, paths: list[str], artifacts: str | None = None) -> Path:
    """Writes what a stranger could send: a spool that names files, and a cursor that names a store."""
    place = folder / "search" / "tracking"
    place.mkdir(parents=True)
    events = [{"event": "spool", "id": "a" * 32, "time": 1.0}]
    events += [{"event": "start", "run": "search/x", "name": "x", "parent": None, "time": 1.0}]
    events += [{"event": "artifact", "run": "search/x", "path": path, "folder": "", "version": "1", "time": 1.0} for path in paths]
    (place / "worker-0.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    state = {"experiment": "bort", "artifacts": artifacts, "store": store}
    (place / "worker-0.cursor.json").write_text(json.dumps({"schema": 1, "stores": {"x": state}}), encoding="utf-8")
    delivery = Delivery(TrackingConfig(uri=store), Spool(place / "worker-0.jsonl"), Quiet())
    # Under the store's own name, as a stranger can compute it.
    delivery._remember({"artifacts": artifacts})
    return place


def sync(folder: Path, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "pipelines", "track", "sync", str(folder), *options]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def delivered(folder: Path) -> str:
    """Returns the content of every file that a store in ``folder`` has received."""
    return "".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*")) if path.is_file())


def test_store_of_a_stranger_is_not_contacted(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, requests = server
    stranger(tmp_path / "theirs", address, ["../result.json"])
    done = sync(tmp_path / "theirs", cwd=tmp_path)
    assert done.returncode == 1
    assert f"--uri {address}" in (done.stdout + done.stderr).replace("\n", " ")
    assert not requests
    # Another store that the user names is none of theirs.
    assert sync(tmp_path / "theirs", "--uri", "http://127.0.0.1:9", cwd=tmp_path).returncode == 1
    assert not requests
    # The user may name it.
    sync(tmp_path / "theirs", "--uri", address, cwd=tmp_path)
    assert requests


def test_database_of_a_stranger_is_not_written(tmp_path: Path) -> None:
    theirs = tmp_path / "mine.db"
    stranger(tmp_path / "theirs", f"sqlite:///{theirs}", ["../result.json"])
    (found,) = {one.spool for one in waiting(tmp_path / "theirs")}
    for one in waiting(tmp_path / "theirs"):
        report = deliver(one, Quiet())
        assert report is not None
        assert "--uri" in str(report.error)
    assert found.exists()
    assert not theirs.exists()


def test_spool_of_a_stranger_sends_its_results_only(tmp_path: Path) -> None:
    home = tmp_path / "outputs" / "theirs"
    mine = tmp_path / "here"
    for folder in (mine, tmp_path / "outputs" / "mine", home / "search" / "kept"):
        folder.mkdir(parents=True)
    for path in (tmp_path / "secret", mine / "secret", tmp_path / "outputs" / "mine" / "secret"):
        path.write_text(SECRET)
    (home / "search" / "result.json").write_text("its-result")
    (home / "search" / "kept" / "a.txt").write_text("its-artifact")
    (home / "search" / "kept" / "link").symlink_to(tmp_path / "secret")
    (home / "search" / "kept" / "folder").symlink_to(mine)
    os.mkfifo(home / "search" / "kept" / "pipe")
    (home / "search" / "link").symlink_to(tmp_path / "secret")
    (home / "search" / "linked").symlink_to(mine)
    named = ["../result.json", "../kept", "../link", "../linked", "../linked/secret", "../../../mine/secret", "../../../mine"]
    named += ["../../../../secret", str(tmp_path / "secret"), str(mine / "secret"), str(mine), "../../../..", "/etc/passwd", ".."]
    store = f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"
    stranger(home, store, named, artifacts=str(tmp_path / "of-their-choice"))
    done = sync(tmp_path / "outputs", "--uri", store, cwd=mine)
    assert done.returncode in (0, 1), done.stderr
    sent = delivered(tmp_path / "store" / "mlartifacts")
    assert "its-result" in sent
    assert "its-artifact" in sent
    assert SECRET not in sent
    assert "root:" not in sent
    assert not (tmp_path / "of-their-choice").exists()


def test_folder_deeper_than_a_run_is_the_limit(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    store = f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"
    place = stranger(tmp_path / "theirs", store, ["../../../secret", "../../secret", "../secret"])
    for folder in (tmp_path / "theirs", tmp_path / "theirs" / "search"):
        (folder / "secret").write_text(SECRET)
    for one in waiting(place):
        deliver(one, Quiet(), uri=store)
    assert SECRET not in delivered(tmp_path / "store")


def test_spool_of_ones_own_is_delivered_to_its_store(tmp_path: Path) -> None:
    store = tmp_path / "store" / "mlflow.db"
    stage = tmp_path / "outputs" / "run" / "search"
    with Tracker(TrackingConfig(uri=f"sqlite:///{store}"), stage / "tracking") as tracker:
        run = tracker.run("x", key="search/x")
        (stage / "result.json").write_text("my-result")
        run.artifact(stage / "result.json")
    (found,) = waiting(tmp_path / "outputs")
    report = deliver(found, Quiet())
    assert report is not None
    assert (report.error, report.refused) == (None, ())
    assert "my-result" in delivered(tmp_path / "store" / "mlartifacts")


def test_mark_of_another_user_or_store_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = tmp_path / "outputs" / "run" / "search" / "tracking"
    with Tracker(TrackingConfig(uri="http://127.0.0.1:9"), stage) as tracker:
        tracker.run("x", key="search/x")
    assert [one.owned for one in waiting(tmp_path / "outputs")] == [True]
    cursor = stage / "tracking.cursor.json"
    record = read_json(cursor)
    (state,) = record["stores"].values()
    for field, value in {"store": "http://127.0.0.1:8", "artifacts": "/elsewhere", "mark": "0" * 64}.items():
        cursor.write_text(json.dumps({"schema": 1, "stores": {"x": {**state, field: value}}}))
        assert [one.owned for one in waiting(tmp_path / "outputs")] == [False]
    cursor.write_text(json.dumps(record))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert [one.owned for one in waiting(tmp_path / "outputs")] == [False]


@pytest.mark.parametrize("name", ["..", "../..", "a/..", "link", "linked/a", "pipe", "missing/.."])
def test_staged_refuses_what_is_no_result(name: str, tmp_path: Path) -> None:
    home = tmp_path / "run"
    (home / "a").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "secret", tmp_path / "b" / "a"):
        path.write_text(SECRET)
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "linked").symlink_to(tmp_path / "b")
    os.mkfifo(home / "pipe")
    with pytest.raises(OutsideError), staged(home / name, Results(home)):
        pass
