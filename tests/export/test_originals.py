"""The original Bort's weights: the file format, the map of names, and what is refused."""

from __future__ import annotations

import json
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as draw
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM

from bort.errors import BortError
from bort.export.originals import bort_model, convert_original
from bort.export.params import read_params
from pipelines import convert

VOCABULARY, POSITIONS, HIDDEN, INTERMEDIATE, DEPTH, HEADS = 30, 12, 16, 8, 2, 4
FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def params_bytes(arrays: dict[str, np.ndarray], magic: int = 0xF993FAC9) -> bytes:
    """Writes the format by its description, as MXNet does."""
    out = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        out.append(struct.pack("<I", magic))
        if magic != 0xF993FAC8:
            out.append(struct.pack("<i", 0))
        out.append(struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape))
        out.append(struct.pack("<iii", 1, 0, FLAGS[array.dtype.name]))
        out.append(array.tobytes())
    out.append(struct.pack("<Q", len(arrays)))
    out.extend(struct.pack("<Q", len(name)) + name.encode() for name in arrays)
    return b"".join(out)


def gluon_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "word_embed.0.weight": (VOCABULARY, HIDDEN),
        "encoder.position_weight": (POSITIONS, HIDDEN),
        "encoder.layer_norm.gamma": (HIDDEN,),
        "encoder.layer_norm.beta": (HIDDEN,),
        "decoder.3.weight": (VOCABULARY, HIDDEN),
    }
    for layer in range(DEPTH):
        cell = f"encoder.transformer_cells.{layer}."
        for name in ("attention_cell.proj_query", "attention_cell.proj_key", "attention_cell.proj_value", "proj"):
            shapes |= {f"{cell}{name}.weight": (HIDDEN, HIDDEN), f"{cell}{name}.bias": (HIDDEN,)}
        shapes |= {f"{cell}ffn.ffn_1.weight": (INTERMEDIATE, HIDDEN), f"{cell}ffn.ffn_1.bias": (INTERMEDIATE,)}
        shapes |= {f"{cell}ffn.ffn_2.weight": (HIDDEN, INTERMEDIATE), f"{cell}ffn.ffn_2.bias": (HIDDEN,)}
        for name in ("layer_norm", "ffn.layer_norm"):
            shapes |= {f"{cell}{name}.gamma": (HIDDEN,), f"{cell}{name}.beta": (HIDDEN,)}
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def by_hand(arrays: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Runs the encoder of the released code in float64, written from its description: post-norm, exact GELU, ε = 1e-5."""
    a = {name: array.astype(np.float64) for name, array in arrays.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * a[f"{name}.gamma"] + a[f"{name}.beta"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ a[f"{name}.weight"].T + a[f"{name}.bias"]

    x = norm(a["word_embed.0.weight"][ids] + a["encoder.position_weight"][: len(ids)], "encoder.layer_norm")
    for layer in range(DEPTH):
        cell = f"encoder.transformer_cells.{layer}"
        q, k, v = (dense(x, f"{cell}.attention_cell.proj_{part}") for part in ("query", "key", "value"))
        split = [part.reshape(len(ids), HEADS, -1).transpose(1, 0, 2) for part in (q, k, v)]
        scores = split[0] @ split[1].transpose(0, 2, 1) / np.sqrt(HIDDEN / HEADS)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ split[2]).transpose(1, 0, 2).reshape(len(ids), HIDDEN)
        x = norm(x + dense(mixed, f"{cell}.proj"), f"{cell}.layer_norm")
        inner = torch.nn.functional.gelu(torch.from_numpy(dense(x, f"{cell}.ffn.ffn_1"))).numpy()
        x = norm(x + dense(inner, f"{cell}.ffn.ffn_2"), f"{cell}.ffn.layer_norm")
    return x


@pytest.mark.parametrize("magic", [0xF993FAC8, 0xF993FAC9, 0xF993FACA])
@pytest.mark.parametrize("kind", list(FLAGS))
def test_arrays_of_every_version_and_type_are_read(tmp_path: Path, magic: int, kind: str) -> None:
    arrays = {"a": np.arange(6).reshape(2, 3).astype(kind), "b.c": np.ones((1,), dtype=kind)}
    path = tmp_path / "x.params"
    path.write_bytes(params_bytes(arrays, magic))
    read = read_params(path)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = params_bytes({"a": np.ones((2, 2), dtype=np.float32), "b": np.ones(3, dtype=np.float16)})
    path = tmp_path / "x.params"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BortError, match="not a sound"):
            read_params(path)


@settings(max_examples=500)
@given(position=draw.integers(0, 200), value=draw.integers(0, 255))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    whole = bytearray(params_bytes({"a": np.ones((2, 2), dtype=np.float32), "b": np.ones(3, dtype=np.float16)}))
    whole[position % len(whole)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.params"
    path.write_bytes(bytes(whole))
    with suppress(BortError):
        assert len(read_params(path)) == 2


def test_the_encoder_computes_what_the_released_code_does(tmp_path: Path) -> None:
    arrays = gluon_arrays()
    path = tmp_path / "bort.params"
    path.write_bytes(params_bytes(arrays))
    converted = convert_original(path, tmp_path / "bort", heads=HEADS)
    model = AutoModel.from_pretrained(converted)
    ids = [0, 5, 7, 29, 2]
    with torch.no_grad():
        output = model(torch.tensor([ids])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(output, by_hand(arrays, ids), atol=2e-5)
    assert model.config.max_position_embeddings == POSITIONS
    assert not model.embeddings.token_type_embeddings.weight.any()


def test_the_hubs_form_gives_the_same_encoder(tmp_path: Path) -> None:
    expected = bort_model(gluon_arrays(1), heads=HEADS)
    settings = {**expected.config.to_dict(), "model_type": "bort"}
    model = BertForMaskedLM(BertConfig(**{**settings, "model_type": "bert"}))
    model.bert.load_state_dict(expected.state_dict())
    source = tmp_path / "hub"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(settings))
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, source / "model.safetensors")
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefgh"]
    (source / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    (source / "merges.txt").write_text("#version: 0.2\n")
    converted = convert_original(source, tmp_path / "bort")
    assert AutoTokenizer.from_pretrained(converted)("abc")["input_ids"] == [0, 5, 6, 7, 2]
    read = AutoModel.from_pretrained(converted, add_pooling_layer=False)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name


def test_the_hubs_older_file_in_half_precision_is_read_too(tmp_path: Path) -> None:
    expected = bort_model(gluon_arrays(2), heads=HEADS)
    weights = {f"bert.{name}": tensor.half() for name, tensor in expected.state_dict().items()}
    # What such a file also holds: positions' numbers, token types that were trained on nothing, a head that was never trained.
    weights["bert.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    weights["bert.embeddings.token_type_embeddings.weight"] = torch.ones(1, HIDDEN).half()
    weights["cls.predictions.bias"] = torch.zeros(VOCABULARY).half()
    source = tmp_path / "hub"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({**expected.config.to_dict(), "model_type": "bort", "layer_norm_eps": 1e-12}))
    torch.save(weights, source / "pytorch_model.bin")
    model = AutoModel.from_pretrained(convert_original(source, tmp_path / "bort"))
    assert model.dtype == torch.float32
    assert model.config.layer_norm_eps == 1e-5
    assert model.config.type_vocab_size == 1
    assert not model.embeddings.token_type_embeddings.weight.any()
    for name, tensor in expected.state_dict().items():
        if "token_type" not in name:
            torch.testing.assert_close(model.state_dict()[name], tensor, atol=2e-3, rtol=2e-3)


def test_the_command_says_what_was_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path = tmp_path / "bort.params"
    path.write_bytes(params_bytes(gluon_arrays()))
    monkeypatch.setattr(sys, "argv", ["bort convert", str(path), str(tmp_path / "bort"), "--heads", str(HEADS)])
    convert.main()
    told = " ".join("".join(capsys.readouterr()).split())
    assert "masked-LM head was never published" in told
    assert "It has no tokenizer yet" in told
    assert (tmp_path / "bort" / "model.safetensors").exists()


@pytest.mark.parametrize("missing", ["word_embed.0.weight", "encoder.transformer_cells.1.ffn.layer_norm.beta"])
def test_what_is_no_bort_is_refused(tmp_path: Path, missing: str) -> None:
    arrays = gluon_arrays()
    del arrays[missing]
    path = tmp_path / "bort.params"
    path.write_bytes(params_bytes(arrays))
    with pytest.raises(BortError, match="not the weights of a Bort"):
        convert_original(path, tmp_path / "bort")
    assert not (tmp_path / "bort").exists()


@pytest.mark.skipif("BORT_TEST_ORIGINAL" not in os.environ, reason="BORT_TEST_ORIGINAL names no published weights of Bort")
def test_the_published_weights_give_the_published_numbers(tmp_path: Path) -> None:
    # The slice is that of the integration test that transformers had for amazon/bort.
    ids = [0, 18077, 4082, 7804, 8606, 6195, 2457, 3321, 11, 10489, 16, 269, 2579, 328, 2]
    model = AutoModel.from_pretrained(convert_original(os.environ["BORT_TEST_ORIGINAL"], tmp_path / "bort"))
    with torch.no_grad():
        output = model(torch.tensor([ids])).last_hidden_state
    assert output.shape == (1, 15, 1024)
    expected = torch.tensor([[-0.0349, 0.0436, -1.8654], [-0.6964, 0.0835, -1.7393], [-0.9819, 0.2956, -0.2868]])
    assert torch.allclose(output[0, :3, :3], expected, atol=1e-4)
