from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bort.errors import BortError
from bort.tracking.config import TrackingConfig
from bort.tracking.tracker import Recording, TrackedRun, Tracker


@pytest.fixture
def config(tmp_path: Path) -> TrackingConfig:
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")


def _lines(tracker: Tracker) -> list[dict[str, object]]:
    return [json.loads(line) for line in tracker.spool.path.read_text().splitlines()]


def _stage(run: TrackedRun, steps: range, file: Path) -> None:
    run.params({"seed": 1})
    run.dataset("text", "abc", "/data/text", {"tokens": 5})
    for step in steps:
        run.metrics({"loss": 1 / (step + 1)}, step)
    run.metrics({"accuracy": 0.5})
    run.artifact(file)


def test_a_stage_that_is_done_adds_nothing_when_it_is_repeated(tmp_path: Path, config: TrackingConfig) -> None:
    file = tmp_path / "figure.svg"
    file.write_text("<svg/>")
    for _ in range(2):
        with Tracker(config, tmp_path / "stage") as tracker, tracker.run("search", key="search/1", tags={"a": "b"}) as run:
            _stage(run, range(5), file)
        size = tracker.spool.size()
    assert tracker.spool.size() == size
    assert [line["event"] for line in _lines(tracker)].count("finish") == 1


def test_a_resumed_stage_goes_on_without_doubling_points(tmp_path: Path, config: TrackingConfig) -> None:
    file = tmp_path / "figure.svg"
    file.write_text("<svg/>")
    for steps in (range(7), range(4, 10)):
        with Tracker(config, tmp_path) as tracker:
            _stage(tracker.run("distill", key="distill/1"), steps, file)
    points = [point for line in _lines(tracker) if line["event"] == "metrics" for point in line["points"]]  # type: ignore[attr-defined]
    assert sorted(step for name, _, step, _ in points if name == "loss") == list(range(10))
    assert sum(name == "accuracy" for name, *_ in points) == 1


def test_parameters_keep_their_first_value_and_tags_their_last(tmp_path: Path, config: TrackingConfig) -> None:
    run = Tracker(config, tmp_path).run("x", key="x")
    for workers in (1, 2):
        run.params({"workers": workers})
        run.tags({"workers": workers})
    values = [line["values"] for line in _lines(run._tracker) if "values" in line]
    assert values == [{"workers": "1"}, {"workers": "1"}, {"workers": "2"}]


def test_a_run_begun_again_with_news_is_recorded_as_such(tmp_path: Path, config: TrackingConfig) -> None:
    with Tracker(config, tmp_path) as tracker:
        for value in (1.0, 2.0):
            run = tracker.run("benchmark", key="benchmark/1")
            run.metrics({"latency": value})
            run.finish()
    assert [line["event"] for line in _lines(tracker)][1:] == ["start", "metrics", "finish"] * 2


def test_a_run_ends_as_what_happened(tmp_path: Path, config: TrackingConfig) -> None:
    tracker = Tracker(config, tmp_path)
    with pytest.raises(ValueError, match="mistake"), tracker.run("a", key="a"):
        raise ValueError("mistake")
    with pytest.raises(KeyboardInterrupt), tracker.run("b", key="b"):
        raise KeyboardInterrupt
    tracker.run("c", key="c").finish("pruned")
    ends = {line["run"]: line["status"] for line in _lines(tracker) if line["event"] == "finish"}
    assert ends == {"a": "FAILED", "b": "KILLED", "c": "FINISHED"}


def test_mistakes_are_refused(tmp_path: Path, config: TrackingConfig) -> None:
    tracker = Tracker(config, tmp_path)
    for key in ("", "it's", "a" * 251, "a\nb"):
        with pytest.raises(BortError, match="key"):
            tracker.run("x", key=key)
    run = tracker.run("x", key="x")
    with pytest.raises(BortError, match="end"):
        run.finish("done")
    for folder in ("../else", "/etc"):
        with pytest.raises(BortError, match="inside the run"):
            run.artifact(tmp_path, folder)


def test_nothing_is_written_when_tracking_is_off(tmp_path: Path) -> None:
    tracker = Tracker(TrackingConfig(enabled=False), tmp_path / "stage")
    with tracker.run("x", key="x") as run:
        run.metrics({"a": 1}, 0)
    assert tracker.sync().error is None
    assert run.run_id is None
    assert tracker.result() == {"enabled": False}
    assert not (tmp_path / "stage").exists()


def test_passwords_are_redacted_before_they_reach_the_disk(tmp_path: Path, config: TrackingConfig) -> None:
    tracker = Tracker(config, tmp_path)
    run = tracker.run("x", key="x", tags={"store": "http://me:planted-secret@host"})
    run.params({"storage.url": "postgresql://me:planted-secret@host/db"})
    run.dataset("text", "abc", "https://me:planted-secret@host/text")
    assert "planted-secret" not in tracker.spool.path.read_text()


def test_recording_passes_everything_on(tmp_path: Path, config: TrackingConfig) -> None:
    heard: list[object] = []

    class Listener:
        def progress(self, label: str, done: float, total: float, note: str = "") -> None:
            heard.append((label, done, total, note))

        def metrics(self, values: object, step: int) -> None:
            heard.append((values, step))

        def warn(self, message: str) -> None:
            heard.append(message)

    tracker = Tracker(config, tmp_path)
    recording = Recording(tracker.run("x", key="x"), Listener(), prefix="twin/")
    recording.progress("distill", 1, 2, "loss 3")
    recording.metrics({"loss": float("nan")}, 7)
    recording.warn("careful")
    assert heard == [("distill", 1, 2, "loss 3"), ({"loss": pytest.approx(float("nan"), nan_ok=True)}, 7), "careful"]
    assert _lines(tracker)[-1]["points"][0][:3] == ["twin/loss", "nan", 7]  # type: ignore[index]


def test_recording_does_not_import_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from bort.tracking.config import TrackingConfig; from bort.tracking.tracker import Tracker\n"
        f"tracker = Tracker(TrackingConfig(uri='sqlite:///{tmp_path}/m.db'), {str(tmp_path)!r})\n"
        "tracker.run('x', key='x').finish(); assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
