"""Delivery to a server that works and asks for a password."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bort.tracking.config import TrackingConfig
from bort.tracking.sink import MlflowSink
from bort.tracking.tracker import Tracker
from pipelines.app.environment import CONF
from tests.tracking.server import Server, serve

PASSWORD = "planted/hunter2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    MlflowSink(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", experiment="Other"), folder, "", {})
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
