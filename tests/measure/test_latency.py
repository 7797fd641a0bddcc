from __future__ import annotations

import numpy as np
import pytest

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.events import Quiet
from bort.measure import BenchmarkConfig, latency, measure
from bort.measure.environment import Occupation, environment
from bort.measure.statistics import ratio_of_medians, summary

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


def test_rounds_are_interleaved(monkeypatch):
    calls: list[str] = []

    def fake(name):
        return latency.Series(name, "eager", lambda _: calls.append(name))

    series = [fake("a"), fake("b"), fake("c")]
    latency._time_cell(series, 0, 1, 4, 10, settings(warmup=2, repeats=20), Quiet(), (0, 1, ""))
    assert calls[:6] == ["a", "a", "b", "b", "c", "c"], "the warm-up does not count"
    rounds = [calls[start : start + 3] for start in range(6, len(calls), 3)]
    assert len(rounds) == 20
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 2, "the order changes from round to round"
    assert [len(one.milliseconds) for one in series] == [20, 20, 20]


def test_a_cell_ends_after_its_time_but_not_before_five_rounds():
    series = [latency.Series("a", "eager", lambda _: None)]
    latency._time_cell(series, 0, 1, 4, 10, settings(repeats=1000, seconds=1e-9), Quiet(), (0, 1, ""))
    assert len(series[0].milliseconds) == 5


def test_a_busy_machine_is_called_busy(monkeypatch):
    monkeypatch.setattr(Occupation, "others", lambda self: 0.42)
    listener = Listener()
    result = measure({"small": SMALL}, config=settings(batch=[1]), observer=listener)
    assert result["busy"] is True
    assert "42%" in listener.warnings[0]
    monkeypatch.setattr(Occupation, "others", lambda self: None)
    assert measure({"small": SMALL}, config=settings(batch=[1]))["busy"] is False


def test_onnx_needs_a_converter_or_a_file(tmp_path):
    with pytest.raises(BortError, match="small has no ONNX file: export it first"):
        measure({"small": SMALL}, config=settings(backends=["eager", "onnx"]))
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(BortError, match="is an ONNX file: add onnx"):
        measure({"file": tmp_path / "m.onnx"}, config=settings())


def test_onnx_stands_beside_eager(tmp_path):
    pytest.importorskip("onnxscript", reason="the export extra is not installed: pip install 'bort[export]'")
    pytest.importorskip("onnxruntime", reason="the export extra is not installed: pip install 'bort[export]'")
    from bort.export import onnx_file

    result = measure(
        {"small": SMALL}, config=settings(backends=["eager", "onnx"], batch=[2]), converter=onnx_file, directory=tmp_path
    )
    assert [row["backend"] for row in result["rows"]] == ["eager", "onnx"]
    assert [(ratio["backend"], ratio["over_backend"]) for ratio in result["ratios"]] == [("onnx", "eager")]
    (file,) = tmp_path.glob("*.onnx")
    alone = measure({"file": file}, config=settings(backends=["onnx"], batch=[2]))
    assert alone["models"]["file"]["bytes"] == file.stat().st_size


def test_an_export_is_timed_as_it_was_exported(tmp_path):
    pytest.importorskip("onnxscript", reason="the export extra is not installed: pip install 'bort[export]'")
    pytest.importorskip("onnxruntime", reason="the export extra is not installed: pip install 'bort[export]'")
    from bort.export import onnx_file
    from bort.measure.models import build_model

    model = build_model(SMALL)
    model.save_pretrained(tmp_path / "transformers")
    onnx_file(model, tmp_path / "onnx" / "model.onnx")
    result = measure({"export": tmp_path}, config=settings(backends=["eager", "onnx"], part="whole", batch=[1]))
    assert [row["backend"] for row in result["rows"]] == ["eager", "onnx"], "no converter was needed"
    assert result["models"]["export"]["onnx_bytes"] == (tmp_path / "onnx" / "model.onnx").stat().st_size


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"backends": ["tpu"]}, "backends"), ({"backends": []}, "backends"), ({"part": "half"}, "part"), ({"batch": [0]}, "batch"),
     ({"sequence_length": []}, "sequence_length"), ({"repeats": 1}, "repeats"), ({"threads": 0}, "threads"),
     ({"seconds": 0.0}, "seconds"), ({"confidence": 1.0}, "confidence")],
)  # fmt: skip
def test_settings_are_refused_by_key(changes, key):
    with pytest.raises(ConfigurationError) as caught:
        settings(**changes).check()
    assert caught.value.key == f"benchmark.{key}"


def test_models_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(BortError, match="There is no model to measure"):
        measure({}, config=settings())
    with pytest.raises(BortError, match=r"student=nothing cannot be measured: a model directory"):
        measure({"student": "nothing"}, config=settings())
    with pytest.raises(ConfigurationError, match=r"benchmark\.reference=other cannot be used: one of the measured models, small"):
        measure({"small": SMALL}, config=settings(reference="other"))
    with pytest.raises(ConfigurationError, match="small takes sequences of at most 16 tokens"):
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


def test_the_environment_names_the_processor():
    found = environment(3)
    assert found["processor"]
    assert found["threads"] == 3
    assert found["processors"] >= 1
    assert "torch" in found["versions"]
    share = Occupation().others()
    assert share is None or 0 <= share <= 1
