"""The tracking server refuses, hangs, fails, loses answers, dies and runs out of disk: nothing is lost, nothing comes twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bort.files import read_json
from bort.tracking import delivery
from bort.tracking.config import TrackingConfig
from bort.tracking.pending import deliver, deliver_left, waiting
from bort.tracking.spool import Spool
from bort.tracking.tracker import Tracker
from tests.faults.mlflow_server import MlflowServer, Proxy

RUNS, POINTS = 6, 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[MlflowServer]:
    """MLflow on PostgreSQL, as a fleet has it."""
    import psycopg

    name = f"mlflow{time.time_ns()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    folder = tmp_path_factory.mktemp("mlflow")
    backend = postgres_url.rpartition("/")[0].replace("postgresql://", "postgresql+psycopg://") + f"/{name}"
    made = MlflowServer(folder, backend)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def proxy(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    # Batches and pauses short enough to meet faults in the middle of them.
    monkeypatch.setattr(delivery, "BATCH", 8)
    monkeypatch.setattr(delivery, "PAUSE_SECONDS", 0.05)
    made = Proxy(server.port)
    made.open()
    yield made
    made.close()


def config_of(proxy: Proxy, tmp_path: Path) -> TrackingConfig:
    return TrackingConfig(uri=proxy.uri, experiment=tmp_path.name, timeout=2)


def train(tracker: Tracker, folder: Path, runs: int = RUNS) -> None:
    """What a search records: runs below one another, curves, final figures, parameters, and a file each."""
    search = tracker.run("search", key="search")
    for number in range(runs):
        weights = folder / f"weights-{number}.bin"
        weights.write_bytes(bytes([number]) * 2000)
        child = search.child(f"candidate {number}", f"search/{number}")
        child.params({"depth": number})
        for step in range(POINTS):
            child.metrics({"loss": 1.0 / (step + 1) + number}, step)
        child.metrics({"w": float(number)})
        child.artifact(weights)
        child.finish("complete")
    search.finish()


def check_whole(server: MlflowServer, experiment: str, runs: int = RUNS) -> None:
    """Every run, point, figure, parameter and file is there, once and in order."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)
    names = Counter(run.info.run_name for run in found)
    assert names == Counter(["search", *(f"candidate {number}" for number in range(runs))])
    by_name = {run.info.run_name: run for run in found}
    for number in range(runs):
        run = by_name[f"candidate {number}"]
        curve = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]
        assert sorted(curve) == [(step, pytest.approx(1.0 / (step + 1) + number)) for step in range(POINTS)]
        assert [point.value for point in client.get_metric_history(run.info.run_id, "w")] == [float(number)]
        assert run.data.params == {"depth": str(number)}
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == by_name["search"].info.run_id
        files = client.list_artifacts(run.info.run_id)
        assert [(file.path, file.file_size) for file in files] == [(f"weights-{number}.bin", 2000)]


def sync_until_whole(tracker: Tracker, most: int = 40) -> int:
    """Delivers again and again, and returns how often it took."""
    for attempt in range(1, most + 1):
        if tracker.sync().error is None:
            return attempt
    raise AssertionError("it is never delivered")


@pytest.mark.parametrize("seed", [1, 2])
def test_what_fails_at_random_arrives_once(tmp_path: Path, server: MlflowServer, proxy: Proxy, seed: int) -> None:
    tracker = Tracker(config_of(proxy, tmp_path), tmp_path / "stage")
    (tmp_path / "stage").mkdir()
    train(tracker, tmp_path / "stage")
    assert not proxy.requests, "recording talks to nobody"
    proxy.at_random(seed, 0.15)
    assert sync_until_whole(tracker) > 1
    assert min(proxy.requests[fault] for fault in ("error", "lost", "cut")) > 0
    proxy.judge = lambda method, path: "pass"
    check_whole(server, tmp_path.name)


def test_an_answer_that_is_lost_makes_no_second_run(tmp_path: Path, server: MlflowServer, proxy: Proxy) -> None:
    proxy.judge = lambda method, path: "lost" if path.endswith("runs/create") else "pass"
    tracker = Tracker(config_of(proxy, tmp_path), tmp_path)
    train(tracker, tmp_path)
    # Each run is made, but only the attempt after it learns of it.
    assert sync_until_whole(tracker) > 1
    check_whole(server, tmp_path.name)


def test_a_server_that_refuses_or_hangs_costs_training_nothing(tmp_path: Path, server: MlflowServer, proxy: Proxy) -> None:
    proxy.close()
    tracker = Tracker(config_of(proxy, tmp_path), tmp_path)
    train(tracker, tmp_path, runs=2)
    assert "does not answer" in str(tracker.sync().error)
    proxy.open()
    proxy.judge = lambda method, path: "hang"
    train(tracker, tmp_path, runs=RUNS)
    assert not proxy.requests
    assert tracker.sync().error
    assert proxy.requests["hang"] == delivery.ATTEMPTS
    events = [event for _, event in tracker.spool.read() if event is not None]
    steps = [point[2] for event in events if event.get("run") == "search/3" for point in event.get("points", [])]
    assert steps == [*range(POINTS), None], "in the order in which it was recorded"
    proxy.judge = lambda method, path: "pass"
    assert tracker.sync().error is None
    check_whole(server, tmp_path.name)


def test_a_full_artifact_volume_holds_up_nothing_but_the_delivery(tmp_path: Path, server: MlflowServer, proxy: Proxy) -> None:
    proxy.judge = lambda method, path: "full" if "mlflow-artifacts" in path and method == "PUT" else "pass"
    tracker = Tracker(config_of(proxy, tmp_path), tmp_path)
    train(tracker, tmp_path)
    assert tracker.sync().error
    proxy.judge = lambda method, path: "pass"
    assert tracker.sync().error is None
    check_whole(server, tmp_path.name)


def test_what_killed_workers_left_is_delivered_by_hand_or_by_the_next_start(
    tmp_path: Path, server: MlflowServer, proxy: Proxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(proxy, tmp_path)
    folder = tmp_path / "outputs" / "demo" / "search" / "tracking"
    folder.mkdir(parents=True)
    # Three workers record the same candidates, and none of them lives to deliver.
    for number in range(3):
        train(Tracker(config, folder, name=f"worker-{number}"), folder)
    assert [one.spool.name for one in waiting(tmp_path)] == [f"worker-{number}.jsonl" for number in range(3)]
    assert all(one.config == TrackingConfig(uri=config.uri, experiment=config.experiment) for one in waiting(tmp_path))
    assert deliver(waiting(tmp_path)[1], tracker_observer()).error is None
    monkeypatch.setattr("sys.argv", ["bort track", "sync", str(tmp_path / "outputs")])
    proxy.close()
    with pytest.raises(SystemExit):
        track()
    assert "2 of 2 spools wait on" in capsys.readouterr().err
    proxy.open()
    track()
    assert waiting(tmp_path) == []
    check_whole(server, tmp_path.name)
    with Tracker(config, folder, name="worker-3") as late:
        late.run("search", key="search").metrics({"late": 1.0})
    deliver_left(config, folder, tracker_observer())
    assert waiting(tmp_path) == []


def test_a_server_killed_in_mid_delivery_gets_the_rest_when_it_is_back(tmp_path: Path, server: MlflowServer, proxy: Proxy) -> None:
    tracker = Tracker(config_of(proxy, tmp_path), tmp_path)
    train(tracker, tmp_path)
    asked: list[str] = []

    def judge(method: str, path: str) -> str:
        asked.append(path)
        if len(asked) == 25:
            server.kill()
        return "pass"

    proxy.judge = judge
    assert tracker.sync().error
    cursor = read_json(tmp_path / "tracking.cursor.json")["stores"]
    offset = next(iter(cursor.values()))["offset"]
    assert 0 < offset < Spool(tmp_path / "tracking.jsonl").size()
    server.start()
    assert tracker.sync().error is None
    check_whole(server, tmp_path.name)


def track() -> None:
    from pipelines.track import main

    main()


def tracker_observer() -> Any:
    from bort.observer import Quiet

    return Quiet()
