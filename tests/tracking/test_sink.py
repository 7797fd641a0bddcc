from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bort.locks import exclusive
from bort.tracking import delivery
from bort.tracking.config import TrackingConfig
from bort.tracking.sink import MlflowSink
from bort.tracking.staging import Results
from bort.tracking.tracker import Tracker
from bort.tracking.views import VIEWS


class Listener:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def progress(self, label: str, done: float, total: float, note: str = "") -> None: ...

    def metrics(self, values: object, step: int) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, made once: the migrations take seconds."""
    folder = tmp_path_factory.mktemp("store")
    MlflowSink(TrackingConfig(uri=f"sqlite:///{folder}/made/mlflow.db", experiment="Other"), folder, "", {}, Results(folder))
    return folder / "made" / "mlflow.db"


@pytest.fixture
def config(empty_store: Path, tmp_path: Path) -> TrackingConfig:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="demo", artifacts=str(tmp_path / "artifacts"))


def _client(config: TrackingConfig) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=config.absolute_uri())


def _runs(config: TrackingConfig) -> dict[str, Any]:
    client = _client(config)
    experiment = client.get_experiment_by_name(config.experiment)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def _curve(config: TrackingConfig, run_id: str, name: str = "loss") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in _client(config).get_metric_history(run_id, name)]


def _record(tracker: Tracker, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    chain = tracker.run("chain", key="chain/1", description="# Demo", start=100.0)
    child = chain.child("D2-A4-H64-I128", "candidate/1", tags={"kind": "candidate"}, start=110.5)
    child.params({"depth": 2, "theta.learning rate": 0.1})
    child.metric_batch([("loss", 1 / (step + 1), step) for step in range(1500)], at=111.0)
    child.metrics({"w": 0.7, "diverged": float("nan")}, at=112.0)
    child.dataset("wikitext-2", "d" * 64, "/data/text", {"tokens": 99}, "training")
    child.artifact(folder, "checkpoint")
    child.artifact(folder / "model.safetensors")
    child.finish("pruned", at=112.5)
    chain.finish(at=113.0)


def test_a_tree_of_runs_arrives_whole(tmp_path: Path, config: TrackingConfig) -> None:
    tracker = Tracker(config, tmp_path / "stage")
    _record(tracker, tmp_path / "stage" / "student")
    report = tracker.sync()
    assert report.error is None
    assert report.refused == ()
    runs = _runs(config)
    chain, child = runs["chain"], runs["D2-A4-H64-I128"]
    assert child.data.tags["mlflow.parentRunId"] == chain.info.run_id == tracker.run_id("chain/1")
    assert (child.info.start_time, child.info.end_time, child.info.status) == (110_500, 112_500, "FINISHED")
    assert chain.data.tags["mlflow.note.content"] == "# Demo"
    assert child.data.tags["bort.state"] == "pruned"
    assert child.data.params == {"depth": "2", "theta.learning rate": "0.1"}
    assert child.data.metrics["w"] == 0.7
    assert len(_curve(config, child.info.run_id)) == 1500
    dataset = child.inputs.dataset_inputs[0]
    assert (dataset.dataset.name, dataset.dataset.digest, dataset.tags[0].value) == ("wikitext-2", "d" * 36, "training")
    client = _client(config)
    assert [file.path for file in client.list_artifacts(child.info.run_id)] == ["checkpoint", "model.safetensors"]
    assert [file.path for file in client.list_artifacts(child.info.run_id, "checkpoint")] == ["checkpoint/model.safetensors"]
    assert (tmp_path / "artifacts").is_dir()
    result = tracker.result()
    assert result["runs"] == {"chain/1": chain.info.run_id, "candidate/1": child.info.run_id}
    assert result["experiment_id"] == chain.info.experiment_id
    assert result["pending_bytes"] == 0


@pytest.mark.parametrize("killed", ["before the cursor", "in mid-delivery"])
def test_a_delivery_killed_anywhere_ends_in_the_same_store(
    killed: str, tmp_path: Path, config: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "BATCH", 4)
    tracker = Tracker(config, tmp_path / "stage")
    _record(tracker, tmp_path / "student")
    owner: Any
    owner, name = (delivery.Delivery, "_remember") if killed == "before the cursor" else (MlflowSink, "_artifact")
    calls: list[int] = []
    original: Callable[..., Any] = getattr(owner, name)

    def dying(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) % 2:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dying)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                # A new process after each kill.
                Tracker(config, tmp_path / "stage").sync()
    tracker = Tracker(config, tmp_path / "stage")
    assert tracker.sync().error is None
    runs = _runs(config)
    assert sorted(runs) == ["D2-A4-H64-I128", "chain"]
    child = runs["D2-A4-H64-I128"]
    assert _curve(config, child.info.run_id) == [(step, pytest.approx(1 / (step + 1))) for step in range(1500)]
    assert len(_curve(config, child.info.run_id, "w")) == 1
    assert len(child.inputs.dataset_inputs) == 1
    assert child.info.status == "FINISHED"


def test_a_repeated_stage_continues_its_run_also_from_a_new_directory(tmp_path: Path, config: TrackingConfig) -> None:
    for folder, value in (("first", 1.0), ("second", 2.0)):
        tracker = Tracker(config, tmp_path / folder)
        run = tracker.run("distill", key="distill/1")
        run.metric_batch([("loss", 3.0 - step, step) for step in range(3)])
        run.metrics({"seconds": value})
        run.finish()
        assert tracker.sync().error is None
    (run_id,) = {run.info.run_id for run in _runs(config).values()}
    assert _curve(config, run_id) == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert _client(config).get_run(run_id).data.metrics["seconds"] == 2.0


def test_a_parent_in_another_spool_is_found_or_made(tmp_path: Path, config: TrackingConfig) -> None:
    stage = Tracker(config, tmp_path / "stage")
    stage.run("search", key="search/1", parent="chain/1").finish()
    assert stage.sync().error is None
    chain = Tracker(config, tmp_path / "chain")
    chain.run("the chain", key="chain/1", start=5.0).finish()
    assert chain.sync().error is None
    runs = _runs(config)
    assert sorted(runs) == ["search", "the chain"]
    assert runs["search"].data.tags["mlflow.parentRunId"] == runs["the chain"].info.run_id


def test_a_finished_run_can_be_put_under_a_chain(tmp_path: Path, config: TrackingConfig) -> None:
    alone = Tracker(config, tmp_path / "alone")
    with alone.run("search", key="search/1") as run:
        run.metrics({"w": 0.7})
    assert alone.sync().error is None
    chain = Tracker(config, tmp_path / "chain")
    for _ in range(2):
        with chain.run("chain", key="chain/1") as run:
            chain.adopt("search/1", run)
    assert chain.sync().delivered == 4
    runs = _runs(config)
    assert runs["search"].data.tags["mlflow.parentRunId"] == runs["chain"].info.run_id
    assert (runs["search"].info.status, runs["search"].data.metrics) == ("FINISHED", {"w": 0.7})


def test_an_experiment_gets_views_and_links_but_keeps_its_owners_words(tmp_path: Path, config: TrackingConfig) -> None:
    tracker = Tracker(config, tmp_path)
    chain = tracker.run("x", key="x", tags={"bort.stage": "reproduce"})
    chain.child("y", key="y", tags={"bort.stage": "search"}).metrics({"error": 0.5})
    chain.child("z", key="z").params({"objective": "kd", "encoder": "student"})
    assert tracker.sync().error is None
    client = _client(config)
    experiment = client.get_experiment_by_name("demo")
    expected = {"candidates": "y", "searches": "y", "students": "z", "tasks": "z", "chains": "x"}
    for key, view in VIEWS.items():
        state = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
        assert f"(#/experiments/{experiment.experiment_id}/runs?viewStateShareKey={key}" in experiment.tags["mlflow.note.content"]
        # MLflow's search understands it.
        found = client.search_runs([experiment.experiment_id], state["searchFilter"], order_by=[f"metrics.`{view.order}` DESC"])
        assert [run.data.tags["mlflow.runName"] for run in found] == [expected[key]]
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "my own words")
    MlflowSink(config, tmp_path, "", {}, Results(tmp_path))
    assert client.get_experiment_by_name("demo").tags["mlflow.note.content"] == "my own words"


def test_what_mlflow_refuses_does_not_hold_up_the_rest(tmp_path: Path, config: TrackingConfig) -> None:
    listener = Listener()
    earlier = Tracker(config, tmp_path / "earlier")
    earlier.run("x", key="x").params({"workers": 1, "odd [key]": 1})
    assert earlier.sync().refused == ()
    tracker = Tracker(config, tmp_path / "stage", observer=listener)
    run = tracker.run("x", key="x")
    run.params({"workers": 2, "seed": 3})
    run.metrics({"a(b)": 1.0})
    run.artifact(tmp_path / "missing.svg")
    run.finish()
    report = tracker.sync()
    assert report.error is None
    assert len(report.refused) == 2
    assert any("missing.svg is gone" in what for what in report.refused)
    assert any(what.startswith("parameter workers") for what in report.refused)
    assert len(listener.warnings) == 1
    assert "did not take" in listener.warnings[0]
    data = _runs(config)["x"].data
    assert data.params["seed"] == "3"
    assert data.params["odd _key_"] == "1"
    assert data.metrics == {"a_b_": 1.0}
    assert tracker.sync().delivered == 0


def test_a_store_that_is_down_is_told_once_and_delivered_to_later(tmp_path: Path, config: TrackingConfig) -> None:
    database = tmp_path / "blocked" / "mlflow.db"
    database.parent.write_text("a file where the folder should be")
    listener = Listener()
    later = TrackingConfig(uri=f"sqlite:///{database}", experiment="demo")
    tracker = Tracker(later, tmp_path / "stage", observer=listener)
    _record(tracker, tmp_path / "student")
    assert tracker.sync().error
    assert tracker.sync().error
    assert len(listener.warnings) == 1
    assert "will be delivered" in listener.warnings[0]
    database.parent.unlink()
    database.parent.mkdir()
    shutil.copy(tmp_path / "mlflow.db", database)
    assert tracker.sync().error is None
    assert len(_curve(later, _runs(later)["D2-A4-H64-I128"].info.run_id)) == 1500


def test_a_server_that_does_not_answer_is_given_up_quickly_and_its_password_hidden(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    listener = Listener()
    tracker = Tracker(TrackingConfig(uri=f"http://me:planted-secret@127.0.0.1:{port}"), tmp_path, observer=listener)
    tracker.run("x", key="x").finish()
    started = time.monotonic()
    assert tracker.sync().error
    assert time.monotonic() - started < 3
    assert "planted-secret" not in "".join(listener.warnings) + str(tracker.result())


def test_a_server_that_hangs_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = Tracker(TrackingConfig(uri=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=1), tmp_path)
        tracker.run("x", key="x").finish()
        started = time.monotonic()
        assert tracker.sync().error
        assert time.monotonic() - started < 8


def test_a_store_that_forgot_its_runs_gets_everything_again(tmp_path: Path, config: TrackingConfig) -> None:
    tracker = Tracker(config, tmp_path / "stage")
    _record(tracker, tmp_path / "student")
    assert tracker.sync().error is None
    assert tracker.sync().delivered == 0
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        for table in ("metrics", "latest_metrics", "params", "tags", "inputs", "runs"):
            database.execute(f"DELETE FROM {table}")
    again = Tracker(config, tmp_path / "stage")
    again.run("chain", key="chain/1").metrics({"late": 1.0})
    assert again.sync().error is None
    assert sorted(_runs(config)) == ["D2-A4-H64-I128", "chain"]


def test_a_store_that_was_removed_is_noticed_without_mlflow(tmp_path: Path, config: TrackingConfig) -> None:
    tracker = Tracker(config, tmp_path / "stage")
    tracker.run("x", key="x").finish()
    assert tracker.sync().error is None
    assert tracker.run_id("x")
    (tmp_path / "mlflow.db").unlink()
    assert tracker.result()["runs"] == {}
    assert tracker.run_id("x") is None


def test_two_deliveries_at_once_do_not_mix(tmp_path: Path, config: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LOCK_SECONDS", 0.2)
    trackers = [Tracker(config, tmp_path, name=f"worker-{number}") for number in range(2)]
    for tracker in trackers:
        tracker.run("x", key="x").metrics({"loss": 1.0}, 0)
    with exclusive(trackers[0].delivery._spool.path.parent, name="delivery.lock"):
        assert "another process" in str(trackers[1].sync().error)
    with ThreadPoolExecutor() as pool:
        monkeypatch.setattr(delivery, "LOCK_SECONDS", 30.0)
        assert [report.error for report in pool.map(Tracker.sync, trackers)] == [None, None]
    (run_id,) = {run.info.run_id for run in _runs(config).values()}
    assert len(_curve(config, run_id)) == 1
