from __future__ import annotations

import numpy as np
import pytest

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError, RecordError
from bort.files import read_json, write_json
from bort.measure import latency
from bort.measure.comparison import Comparison, targets
from bort.measure.config import BenchmarkConfig
from bort.measure.environment import Occupation, environment
from bort.measure.harness import Series, time_series
from bort.measure.latency import measure
from bort.measure.statistics import ratio_by_way_of, ratio_of_medians, summary
from bort.observer import Quiet
from bort.settings import check_settings

SMALL, LARGE = Architecture(1, 2, 32, 32), Architecture(4, 2, 256, 512)


def settings(**changes) -> BenchmarkConfig:
    values = {
        "backends": ["eager"],
        "batch": [1, 2],
        "sequence_length": [8],
        "repeats": 8,
        "warmup": 1,
        "threads": 1,
        "resamples": 200,
    }
    return BenchmarkConfig(**{**values, **changes})


@pytest.fixture(autouse=True)
def _small_vocabulary(monkeypatch):
    """Random weights of RoBERTa's vocabulary would cost the tests seconds."""
    whole = Architecture.config
    monkeypatch.setattr(Architecture, "config", lambda self, **given: whole(self, **{"vocab_size": 50, "positions": 16, **given}))


class Listener(Quiet):
    def __init__(self) -> None:
        self.done: list[float] = []
        self.warnings: list[str] = []

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        self.done.append(done / total)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def test_every_cell_has_every_series_with_its_circumstances(capfd):
    import torch

    threads, listener = torch.get_num_threads(), Listener()
    result = measure({"large": LARGE, "small": "1-2-32-32"}, config=settings(), observer=listener)
    assert capfd.readouterr() == ("", "")
    assert [(row["model"], row["batch"]) for row in result["rows"]] == [("large", 1), ("small", 1), ("large", 2), ("small", 2)]
    for row in result["rows"]:
        assert 0 < row["least_ms"] <= row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["repeats"] == len(row["samples_ms"]) == 8
        assert row["processor_ms"] > 0
        assert row["tokens_per_second"] == pytest.approx(row["batch"] * 8 / row["p50_ms"] * 1e3)
    assert result["models"]["small"]["architecture"] == "D1-A2-H32-I32"
    assert result["environment"]["threads"] == 1
    assert {"processor", "instruction_sets", "load", "versions"} <= result["environment"].keys()
    assert listener.done[-1] == 1
    assert torch.get_num_threads() == threads, "the thread count is put back"


def test_the_larger_model_is_the_slower_one():
    result = measure({"large": LARGE, "small": SMALL}, config=settings(batch=[1], sequence_length=[16], repeats=15))
    (ratio,) = result["ratios"]
    assert (ratio["model"], ratio["over_model"], ratio["over_backend"]) == ("small", "large", "eager")
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert ratio["ratio"] > 1


def test_rounds_are_interleaved():
    calls: list[str] = []

    def fake(name):
        return Series(name, "eager", lambda _: calls.append(name))

    series = [fake("a"), fake("b"), fake("c")]
    time_series(series, np.zeros((1, 4), int), settings(warmup=2, repeats=20), 0)
    assert calls[:6] == ["a", "a", "b", "b", "c", "c"], "the warm-up does not count"
    assert calls[6::2] == calls[7::2], "a call that is not timed goes before each that is"
    timed = calls[7::2]
    rounds = [timed[start : start + 3] for start in range(0, len(timed), 3)]
    assert len(rounds) == 20
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 2, "the order changes from round to round"
    assert [len(one.milliseconds) for one in series] == [20, 20, 20]


def test_a_cell_ends_after_its_time_but_not_before_five_rounds():
    series = [Series("a", "eager", lambda _: None)]
    time_series(series, np.zeros((1, 4), int), settings(repeats=1000, seconds=1e-9), 0)
    assert len(series[0].milliseconds) == 5


def test_a_busy_machine_is_called_busy(monkeypatch):
    monkeypatch.setattr(Occupation, "others", lambda self: 0.42)
    listener = Listener()
    result = measure({"small": SMALL}, config=settings(batch=[1]), observer=listener)
    assert result["busy"] is True
    assert result["rows"][0]["busy"] is True
    assert (result["models"]["small"]["others_share"], result["others_share"]) == (0.42, pytest.approx(0.42))
    assert "42%" in listener.warnings[0]
    monkeypatch.setattr(Occupation, "others", lambda self: None)
    assert measure({"small": SMALL}, config=settings(batch=[1]))["busy"] is False


class Killed(Exception):
    pass


class Kills(Quiet):
    """Ends the work, as a kill would, as soon as a model is measured."""

    def __init__(self, name: str) -> None:
        self.name = name

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        if note.startswith(self.name):
            raise Killed


def test_a_benchmark_that_was_killed_goes_on_with_the_next_model(tmp_path, monkeypatch):
    models, path = {"large": LARGE, "small": SMALL, "tiny": "1-1-16-16"}, tmp_path / "blocks.json"
    with pytest.raises(Killed):
        measure(models, config=settings(), path=path, observer=Kills("tiny"))
    half = read_json(path)
    assert list(half["blocks"]) == ["large", "small"]
    built = []
    whole = latency.Maker.make
    monkeypatch.setattr(
        latency.Maker, "make", lambda self, name, *rest, **kept: built.append(name) or whole(self, name, *rest, **kept)
    )
    result = measure(models, config=settings(), path=path)
    assert built == ["tiny", "large"], "the reference is measured beside it, the others are not built again"
    assert list(result["models"]) == ["large", "small", "tiny"]
    again = read_json(path)
    assert {name: again["blocks"][name] for name in half["blocks"]} == half["blocks"]
    built.clear()
    assert measure(models, config=settings(), path=path) == result
    assert not built
    with pytest.raises(RecordError, match="repeats: 8 there, 9 here"):
        measure(models, config=settings(repeats=9), path=path)


def test_blocks_of_another_processor_are_measured_anew(tmp_path):
    path, listener = tmp_path / "blocks.json", Listener()
    measure({"small": SMALL}, config=settings(), path=path)
    record = read_json(path)
    record["environment"]["processor"] = "another"
    record["blocks"]["small"]["cells"][0]["series"]["eager"]["samples_ms"] = [1e6]
    write_json(path, record)
    result = measure({"small": SMALL}, config=settings(), path=path, observer=listener)
    assert "another processor" in listener.warnings[0]
    assert result["rows"][0]["p99_ms"] < 1e5


def block(series, anchor=None):
    def times(values):
        return {"samples_ms": list(values), "processor_ms": 1.0}

    cell = {"batch": 1, "sequence_length": 128, "series": {name: times(values) for name, values in series.items()}}
    return {"cells": [{**cell, "anchor": None if anchor is None else times(anchor)}]}


def test_models_of_different_blocks_are_compared_by_way_of_the_anchor():
    """The machine was half as fast while the second block was measured; that must not show."""
    base = np.array([9.0, 10.0, 11.0])
    blocks = {
        "base": block({"eager": base * 10, "onnx": base * 8}),
        "slow": block({"eager": base * 12}, anchor=base * 20),
        "fast": block({"eager": base, "onnx": base / 2}, anchor=base * 10),
    }
    comparison = Comparison(blocks, ("base", "eager"), settings(backends=["eager", "onnx"]))

    def ratio(slow, fast):
        found = comparison.ratio(slow, fast, (1, 128))
        return found and (found["ratio"], found["low"], found["high"])

    assert ratio(("base", "eager"), ("fast", "eager")) == pytest.approx((10, 10, 10)), "called in the same rounds"
    assert ratio(("fast", "onnx"), ("base", "eager")) == pytest.approx((0.05, 0.05, 0.05))
    assert ratio(("fast", "eager"), ("fast", "onnx")) == pytest.approx((2, 2, 2))
    assert ratio(("slow", "eager"), ("fast", "eager"))[0] == pytest.approx(6), "12/20 of the anchor against 1/10"
    assert ratio(("base", "onnx"), ("fast", "onnx"))[0] == pytest.approx(16)
    assert ratio(("slow", "onnx"), ("fast", "onnx")) is None
    pairs = {(row["model"], row["backend"], row["over_model"], row["over_backend"]) for row in comparison.ratios(["base", "slow"])}
    assert ("fast", "onnx", "base", "onnx") in pairs
    assert ("fast", "onnx", "slow", "eager") in pairs
    assert not any(pair[:2] == pair[2:] for pair in pairs)


def test_targets_are_judged_by_the_whole_interval():
    base = np.linspace(99, 101, 30)
    blocks = {
        "bert-large": block({"eager": base * 10}),
        "bort": block({"eager": base, "onnx": base / 1.1, "int8": base / 1.5}, anchor=base * 10),
        "other": block({"eager": base}, anchor=base * 10),
    }
    comparison = Comparison(blocks, ("bert-large", "eager"), settings(backends=["eager", "onnx", "int8"]))
    facts = {"bert-large": {}, "bort": {"architecture": "D4-A8-H1024-I768"}, "other": {"architecture": "D1-A2-H32-I32"}}
    found = {row["target"]: row for row in targets(facts, comparison)}
    assert {row["model"] for row in found.values()} == {"bort"}
    verdicts = {words: row["met"] for words, row in found.items()}
    assert verdicts == {
        "exported to ONNX at least as fast as eager": True,
        "int8 at least twice as fast as eager": False,
        "int8 at least 20 times as fast as eager BERT-large": False,
        "the paper: 7.9 times as fast as BERT-large": True,
        "the paper: 20 times as fast as BERT-large": False,
    }
    blocks["bort"] = block({"eager": base, "int8": np.linspace(30, 70, 30)}, anchor=base * 10)
    found = targets(facts, Comparison(blocks, ("bert-large", "eager"), settings(backends=["eager", "int8"])))
    assert next(row["met"] for row in found if row["least"] == 2.0) is None, "the interval reaches to both sides"


def test_onnx_needs_a_converter_or_a_file(tmp_path):
    with pytest.raises(BortError, match="small has no ONNX file: export it first"):
        measure({"small": SMALL}, config=settings(backends=["eager", "onnx"]))
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(BortError, match="is an ONNX file: add onnx"):
        measure({"file": tmp_path / "m.onnx"}, config=settings())


def test_onnx_stands_beside_eager(tmp_path):
    pytest.importorskip("onnxscript", reason="the export extra is not installed: pip install 'bort[export]'")
    pytest.importorskip("onnxruntime", reason="the export extra is not installed: pip install 'bort[export]'")
    from bort.export.convert import onnx_file
    from bort.measure.models import build_model

    result = measure({"small": SMALL}, config=settings(backends=["eager", "onnx"], batch=[2]), converter=onnx_file)
    assert [row["backend"] for row in result["rows"]] == ["eager", "onnx"]
    assert [(ratio["backend"], ratio["over_backend"]) for ratio in result["ratios"]] == [("onnx", "eager")]
    file = tmp_path / "file.onnx"
    onnx_file(build_model(SMALL), file)
    both = measure({"file": file, "small": SMALL}, config=settings(backends=["eager", "onnx"], batch=[2]), converter=onnx_file)
    assert [(row["model"], row["backend"]) for row in both["rows"]] == [("file", "onnx"), ("small", "eager"), ("small", "onnx")]
    assert both["anchor"] == {"model": "file", "backend": "onnx"}
    assert both["models"]["file"]["bytes"] == file.stat().st_size
    with pytest.raises(ConfigurationError, match=r"must be <= 16, the most tokens that .*file reads"):
        measure({"file": file}, config=settings(backends=["onnx"], sequence_length=[17]))


def test_an_export_is_timed_as_it_was_exported(tmp_path):
    pytest.importorskip("onnxscript", reason="the export extra is not installed: pip install 'bort[export]'")
    pytest.importorskip("onnxruntime", reason="the export extra is not installed: pip install 'bort[export]'")
    from bort.export.convert import onnx_file
    from bort.measure.models import build_model

    model = build_model(SMALL)
    model.save_pretrained(tmp_path / "transformers")
    onnx_file(model, tmp_path / "onnx" / "model.onnx")
    result = measure({"export": tmp_path}, config=settings(backends=["eager", "onnx"], part="whole", batch=[1]))
    assert [row["backend"] for row in result["rows"]] == ["eager", "onnx"], "no converter was needed"
    assert result["models"]["export"]["onnx_bytes"] == (tmp_path / "onnx" / "model.onnx").stat().st_size


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"models": []}, "models"), ({"models": ["bort", "bort"]}, "models"), ({"mixes": ["novels"]}, "mixes"),
     ({"requests": 1}, "requests"), ({"backends": ["tpu"]}, "backends"), ({"backends": []}, "backends"),
     ({"part": "half"}, "part"), ({"batch": [0]}, "batch"),
     ({"sequence_length": []}, "sequence_length"), ({"repeats": 1}, "repeats"), ({"threads": 0}, "threads"),
     ({"seconds": 0.0}, "seconds"), ({"confidence": 1.0}, "confidence")],
)  # fmt: skip
def test_settings_are_refused_by_key(changes, key):
    with pytest.raises(ConfigurationError) as caught:
        check_settings(settings(**changes), "benchmark")
    assert caught.value.key == f"benchmark.{key}"


def test_models_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(BortError, match="There is no model to measure"):
        measure({}, config=settings())
    with pytest.raises(BortError, match=r"student=nothing cannot be measured: a model directory"):
        measure({"student": "nothing"}, config=settings())
    with pytest.raises(
        ConfigurationError, match=r"benchmark\.reference=other is invalid: must be one of the measured models, small"
    ):
        measure({"small": SMALL}, config=settings(reference="other"))
    with pytest.raises(ConfigurationError, match="must be <= 16, the most tokens that small reads"):
        measure({"small": SMALL}, config=settings(sequence_length=[17]))
    with pytest.raises(BortError, match=r"has no config\.json"):
        measure({"student": tmp_path}, config=settings())


def test_percentiles_and_ratios():
    times = np.arange(1.0, 102.0)
    assert summary(times) == {"p50_ms": 51, "p90_ms": 91, "p99_ms": 100, "mean_ms": 51, "least_ms": 1, "repeats": 101}
    ratio = ratio_of_medians(times * 3, times, confidence=0.95, resamples=500, seed=0)
    assert (ratio["ratio"], ratio["low"], ratio["high"]) == pytest.approx((3, 3, 3)), "disturbances common to a round cancel out"
    noise = np.random.default_rng(0).normal(100, 5, size=(2, 200))
    ratio = ratio_of_medians(2 * noise[0], noise[1], confidence=0.95, resamples=500, seed=0)
    assert ratio["low"] < 2 < ratio["high"]
    assert ratio["high"] - ratio["low"] < 0.2
    assert ratio == ratio_of_medians(2 * noise[0], noise[1], confidence=0.95, resamples=500, seed=0)
    third = np.random.default_rng(1).normal(50, 2, size=(2, 150))
    ratio = ratio_by_way_of(2 * noise[0], noise[1], 3 * third[0], third[1], confidence=0.95, resamples=500, seed=0)
    assert ratio["low"] < 6 < ratio["high"]
    assert ratio["ratio"] == pytest.approx(6, rel=0.02)


def test_the_environment_names_the_processor():
    found = environment(3)
    assert found["processor"]
    assert found["threads"] == 3
    assert found["processors"] >= 1
    assert "torch" in found["versions"]
    share = Occupation().others()
    assert share is None or 0 <= share <= 1
