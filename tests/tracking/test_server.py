"""Delivery to a server that works and asks for a password."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bort.tracking import delivery
from bort.tracking.config import TrackingConfig
from bort.tracking.sink import MlflowSink
from bort.tracking.staging import Results
from bort.tracking.tracker import Tracker
from pipelines.app.environment import CONF
from tests.tracking.server import Server, serve

PASSWORD = "planted/hunter2"


class Listener:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def progress(self, label: str, done: float, total: float, note: str = "") -> None: ...

    def metrics(self, values: object, step: int) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    MlflowSink(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", experiment="Other"), folder, "", {}, Results(folder))
    with serve(folder, folder / "mlflow.db", password=PASSWORD) as running:
        yield running


def _names(server: Server, experiment: str) -> list[str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    found = client.get_experiment_by_name(experiment)
    return sorted(run.info.run_name for run in client.search_runs([found.experiment_id]))


def test_delivery_to_working_server_prints_no_address(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker(TrackingConfig(uri=server.uri, experiment="printed"), tmp_path)
    tracker.run("x", key="x").finish()
    assert tracker.sync().error is None
    assert _names(server, "printed") == ["x"]
    assert "View run" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_refused_artifact_is_set_aside_and_the_rest_arrives(status: int, server: Server, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    listener, experiment = Listener(), f"refused{status}"
    (tmp_path / "large.bin").write_bytes(b"x")
    (tmp_path / "small.txt").write_text("x")
    server.judge = lambda method, path: status if path.endswith("large.bin") else None
    try:
        tracker = Tracker(TrackingConfig(uri=server.uri, experiment=experiment), tmp_path, observer=listener)
        run = tracker.run("x", key="x")
        run.artifact(tmp_path / "large.bin")
        run.artifact(tmp_path / "small.txt")
        run.metrics({"w": 1.0})
        run.finish()
        tracker.run("behind", key="behind").finish()
        report = tracker.sync()
    finally:
        server.judge = lambda method, path: None
    assert report.error is None
    assert len(report.refused) == 1
    assert "large.bin" in report.refused[0]
    assert str(status) in report.refused[0]
    assert tracker.delivery.state()["refused"] == list(report.refused)
    assert len(listener.warnings) == 1
    assert tracker.result()["pending_bytes"] == 0
    client = MlflowClient(tracking_uri=server.uri)
    (found,) = (one for one in client.search_runs([_experiment(client, experiment)]) if one.info.run_name == "x")
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"w": 1.0})
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["small.txt"]
    assert _names(server, experiment) == ["behind", "x"]


def _experiment(client: Any, name: str) -> str:
    identity: str = client.get_experiment_by_name(name).experiment_id
    return identity


def test_server_that_fails_is_delivered_to_later(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PAUSE_SECONDS", 0.01)
    (tmp_path / "a.bin").write_bytes(b"x")
    tracker = Tracker(TrackingConfig(uri=server.uri, experiment="later"), tmp_path)
    run = tracker.run("x", key="x")
    run.artifact(tmp_path / "a.bin")
    run.finish()
    server.judge = lambda method, path: 503 if path.endswith("a.bin") else None
    try:
        assert tracker.sync().error
    finally:
        server.judge = lambda method, path: None
    report = tracker.sync()
    assert (report.error, report.refused) == (None, ())


@pytest.mark.parametrize(
    ("status", "user", "words"),
    [(401, "nobody", ("401", "MLFLOW_TRACKING_PASSWORD", "tracking.uri")), (403, "bort", ("403", "permission"))],
)
def test_refused_credentials_are_named_with_remedy(
    status: int, user: str, words: tuple[str, ...], server: Server, tmp_path: Path
) -> None:
    listener = Listener()
    uri = server.uri.replace("bort:", f"{user}:")
    tracker = Tracker(TrackingConfig(uri=uri, experiment="denied"), tmp_path, observer=listener)
    tracker.run("x", key="x").finish()
    server.judge = lambda method, path: status if status == 403 else None
    try:
        report = tracker.sync()
    finally:
        server.judge = lambda method, path: None
    assert report.reached
    (warning,) = listener.warnings
    assert "reached" not in warning
    assert all(word in warning for word in (*words, "will be delivered"))
    assert "hunter2" not in warning


def test_unverified_certificate_is_named_with_remedy(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = Listener()
    with serving(context) as port:
        uri = f"https://bort:planted%2Fhunter2@127.0.0.1:{port}"
        tracker = Tracker(TrackingConfig(uri=uri, timeout=2), tmp_path / "stage", observer=listener)
        tracker.run("x", key="x").finish()
        report = tracker.sync()
    assert report.reached
    (warning,) = listener.warnings
    assert all(word in warning for word in ("self-signed certificate", "MLFLOW_TRACKING_SERVER_CERT_PATH", "will be delivered"))
    assert "hunter2" not in warning


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    class Quietly(HTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None: ...

    listener = Quietly(("127.0.0.1", 0), BaseHTTPRequestHandler)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield listener.server_port
    finally:
        listener.shutdown()
        listener.server_close()


def test_search_with_working_server_leaves_no_password(server: Server, tmp_path: Path) -> None:
    overrides = ["error=proxy", "search_space.depth=[1,2]", "search_space.heads=[2]", "search_space.hidden=[8,16]"]
    overrides += ["search_space.intermediate=[16]", "search_space.maximum_point=6-4-64-256", "impl.workers=2"]
    command = [sys.executable, "-m", "pipelines", "search", *overrides, f"tracking.uri={server.uri}", "tracking.experiment=e2e"]
    # As a library that prints what it should not, in this process and in its workers.
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, sys\n"
        "talk = lambda: (os.write(1, b'out planted%2Fhunter2\\n'), os.write(2, b'err planted/hunter2 x'))\n"
        "hook = lambda event, args: talk() if event == 'socket.connect' else None\n"
        "sys.addaudithook(hook)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{CONF.parent}{os.pathsep}{tmp_path}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(_names(server, "e2e")) > 2
    (tmp_path / "sitecustomize.py").unlink()
    written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    log = next(content.decode() for name, content in written.items() if name.endswith("worker-1.log"))
    for shown in (done.stdout + done.stderr, log):
        assert "out ***" in shown
        assert "err ***" in shown
    written |= {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    assert [name for name, content in written.items() if b"hunter2" in content] == []
