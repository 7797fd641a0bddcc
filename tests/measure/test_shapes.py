"""The latencies of a space: all in one file, gone on from after a kill, the same for whoever asks for it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from bort.architecture import Architecture
from bort.errors import RecordError
from bort.files import read_json, write_json
from bort.measure import shapes
from bort.measure.config import BenchmarkConfig
from bort.measure.shapes import measure_shapes
from bort.observer import Quiet

SPACE = [Architecture(1, heads, hidden, 16) for hidden in (8, 16) for heads in (1, 2)]
COUNTS = {"vocab_size": 40, "positions": 16, "token_types": 1}


def settings(**changes: Any) -> BenchmarkConfig:
    values = {"backends": ["eager"], "batch": [1], "sequence_length": [8], "repeats": 6, "warmup": 1, "threads": 1}
    return BenchmarkConfig(**{**values, **changes})


def measure(path: Path, **changes: Any) -> dict[str, Any]:
    return measure_shapes(SPACE, config=settings(**changes), path=path, counts=COUNTS)


class Killed(Exception):
    pass


class Stops(Quiet):
    """Ends the process' work, as a kill would, after so many calls have been measured."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        if done >= self.calls:
            raise Killed


def test_every_shape_has_its_percentiles_and_circumstances(tmp_path: Path) -> None:
    record = measure(tmp_path / "latencies.json")
    assert record == read_json(tmp_path / "latencies.json")
    assert list(record["rows"]) == [str(shape) for shape in SPACE], "heads have latencies of their own"
    for row in record["rows"].values():
        assert 0 < row["least_ms"] <= row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["repeats"] == 6
    assert record["identity"]["threads"] == 1
    assert {"processor", "load", "versions", "threads"} <= record["environment"].keys()


@pytest.mark.parametrize("size", [1 << 30, 12_000])
def test_a_measurement_that_was_killed_goes_on(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one group, and in groups of which none holds the whole space."""
    monkeypatch.setattr(shapes, "GROUP_BYTES", size)
    monkeypatch.setattr(shapes, "WRITE_SECONDS", 0.0)
    path = tmp_path / "latencies.json"
    with pytest.raises(Killed):
        measure_shapes(SPACE, config=settings(), path=path, counts=COUNTS, observer=Stops(9))
    partial = read_json(path)
    assert not partial["done"]
    assert 0 < sum(len(times) for times in partial["samples_ms"].values()) < 24
    record = measure(path)
    for name, times in partial["samples_ms"].items():
        assert record["samples_ms"][name][: len(times)] == times
        assert len(record["samples_ms"][name]) == 6


def test_the_calls_of_a_group_are_interleaved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    whole = shapes.run_round

    def noted(series: Any, ids: Any, key: Any) -> None:
        called.append("+".join(one.model for one in series))
        assert ids.shape == (1, 8)
        whole(series, ids, key)

    monkeypatch.setattr(shapes, "run_round", noted)
    measure(tmp_path / "latencies.json")
    assert len(called) == 6, "a round calls every shape once"
    assert set(called[0].split("+")) == {str(shape) for shape in SPACE}


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = measure(tmp_path / "latencies.json")
    monkeypatch.setattr(shapes, "build_model", None)
    assert measure(tmp_path / "latencies.json") == record


def test_the_latencies_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latencies.json"
    measure(path)
    with pytest.raises(RecordError, match=r"repeats: 6 there, 7 here"):
        measure(path, repeats=7)
    with pytest.raises(RecordError, match="shapes"):
        measure_shapes(SPACE[:2], config=settings(), path=path, counts=COUNTS)


def test_half_a_measurement_of_another_processor_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "latencies.json"
    record = measure(path)
    record["done"] = False
    record["environment"]["processor"] = "another"
    record["samples_ms"] = {name: [1e6] for name in record["samples_ms"]}
    write_json(path, record)
    told: list[str] = []

    class Listens(Quiet):
        def warn(self, message: str) -> None:
            told.append(message)

    fresh = measure_shapes(SPACE, config=settings(), path=path, counts=COUNTS, observer=Listens())
    assert "another processor" in told[0]
    assert max(row["p99_ms"] for row in fresh["rows"].values()) < 1e5


def _worker(path: Path, answers: Any) -> None:
    answers.put(measure(path)["samples_ms"])


def test_workers_that_ask_at_once_are_given_the_same_numbers(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_worker, args=(tmp_path / "latencies.json", answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert found[0] == found[1] == found[2]
