"""Requests of mixed lengths: the calls that cost least, and answers that are those of the padded batch."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bort.architecture import Architecture
from bort.benchmarks.serving import draw_lengths
from bort.errors import BortError, ConfigurationError
from bort.export.convert import onnx_file
from bort.export.serving import Runtime, plan
from bort.measure.config import MIXES, BenchmarkConfig
from bort.measure.models import build_model

SHAPE = Architecture(2, 2, 64, 96)


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("onnxruntime", reason="the export extra is not installed: pip install 'bort[export]'")
    import torch

    torch.manual_seed(0)
    return build_model(SHAPE, vocab_size=60, positions=40)


@pytest.fixture(scope="module")
def file(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serving") / "model.onnx"
    onnx_file(model, path)
    return path


def cost(calls: list[list[int]], lengths: list[int], call_tokens: int) -> int:
    return sum(call_tokens + len(call) * max(lengths[place] for place in call) for call in calls)


@pytest.mark.parametrize("call_tokens", [0, 5, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_calls_cost_less(call_tokens: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 40, size=8).tolist()
    calls = plan(lengths, call_tokens=call_tokens)
    assert sorted(place for call in calls for place in call) == list(range(8)), "each request is answered once"
    order = np.argsort(lengths, kind="stable").tolist()
    everything = [
        [order[start:end] for start, end in zip((0, *cuts), (*cuts, 8), strict=True)]
        for count in range(8)
        for cuts in combinations(range(1, 8), count)
    ]
    assert cost(calls, lengths, call_tokens) == min(cost(other, lengths, call_tokens) for other in everything)


def test_calls_are_only_so_large() -> None:
    calls = plan([10] * 20 + [100], call_tokens=1000, most_tokens=50)
    assert sorted(map(len, calls)) == [1, 5, 5, 5, 5]
    assert plan([]) == []


@pytest.mark.parametrize("call_tokens", [0, 8, 10_000])
def test_the_answers_are_those_of_the_padded_batch(model: Any, file: Path, call_tokens: int) -> None:
    import torch

    runtime = Runtime(file, threads=1, call_tokens=call_tokens)
    generator = np.random.default_rng(0)
    requests = [generator.integers(0, 60, size=length).tolist() for length in (7, 40, 1, 13, 7, 22, 39)]
    found, padded = runtime.outputs(requests), runtime.padded(requests)
    for request, mine, theirs in zip(requests, found, padded, strict=True):
        assert mine.shape == theirs.shape == (len(request), 64)
        assert np.abs(mine - theirs).max() <= 1e-5
        with torch.inference_mode():
            alone = model(input_ids=torch.tensor([request]))[0][0].numpy()
        assert np.abs(mine - alone).max() <= 1e-5
    assert runtime.outputs([]) == runtime.padded([]) == []


def test_requests_are_refused_in_a_sentence(file: Path, tmp_path: Path) -> None:
    runtime = Runtime(file, threads=1)
    for request in ([], [1] * 41):
        with pytest.raises(ConfigurationError, match="requests of 1 to 40 tokens"):
            runtime.outputs([[1, 2], request])
    with pytest.raises(BortError, match="has no tokenizer: give the export's directory"):
        runtime.read(["a text"])
    with pytest.raises(BortError, match=r"model_int8\.onnx is missing: export it with export=int8"):
        Runtime(tmp_path, int8=True)


def test_texts_and_pairs_are_read_with_the_export_s_tokenizer(tiny_tokenizer: Any, tmp_path: Path) -> None:
    import transformers

    from bort.export.config import ExportConfig
    from bort.export.models import export_model

    config = SHAPE.config(vocab_size=len(tiny_tokenizer), positions=16, token_types=2, pad_token_id=tiny_tokenizer.pad_token_id)
    whole = transformers.BertForSequenceClassification(config).eval()
    whole.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "export", config=ExportConfig(checks=2))
    runtime = Runtime(tmp_path / "export", threads=1)
    texts = ["the cat watches the bread again", "no one", "the river follows my brother at night and the city " * 5]
    alone = [runtime.read([text])[0] for text in texts]
    assert [answer.shape for answer in alone] == [(2,)] * 3, "one row of logits for each, the long one cut"
    for together, one in zip(runtime.read(texts), alone, strict=True):
        assert np.abs(together - one).max() <= 1e-5
    first, second = runtime.read(["the cat"] * 2, ["a letter", "again"])
    assert np.abs(first - second).max() > 0


def test_lengths_are_drawn_from_real_ones() -> None:
    for mix in MIXES:
        lengths = draw_lengths(mix, 4000, seed=1)
        assert lengths == draw_lengths(mix, 4000, seed=1) != draw_lengths(mix, 4000, seed=2)
        assert 3 <= min(lengths) <= max(lengths) <= 512
    assert np.median(draw_lengths("sentences", 4000, seed=1)) == pytest.approx(27, abs=1)
    assert np.median(draw_lengths("paragraphs", 4000, seed=1)) == pytest.approx(133, abs=8)


def test_serving_is_timed_in_every_way_and_goes_on(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bort.benchmarks import serving as serving_speed

    config = BenchmarkConfig(backends=["onnx"], mixes=["sentences"], requests=6, repeats=6, warmup=0, threads=1, resamples=100)
    rows = serving_speed.measure_serving({"tiny": file}, config=config, path=tmp_path / "serving.json")
    assert [row["way"] for row in rows] == ["padded", "one by one", "planned"]
    padded, single, planned = rows
    assert padded["faster"] is None
    assert planned["faster"]["low"] <= planned["faster"]["ratio"] <= planned["faster"]["high"]
    assert single["computed_tokens"] == single["tokens"] <= planned["computed_tokens"] <= padded["computed_tokens"]
    assert (padded["calls"], single["calls"]) == (1, 6)
    assert max(row["difference"] for row in rows) <= 1e-5
    assert planned["met"] == (planned["faster"]["low"] >= 1.5)
    monkeypatch.setattr(serving_speed, "_measure", None)
    assert serving_speed.measure_serving({"tiny": file}, config=config, path=tmp_path / "serving.json") == rows
