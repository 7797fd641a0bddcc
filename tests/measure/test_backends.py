"""What every backend promises: the output of the transformers model for any batch, length and mask, or a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.measure.backends import BACKENDS, Forms
from bort.measure.config import BACKENDS as NAMES
from bort.measure.models import build_model
from bort.model_facts import first_output

SHAPE = Architecture(2, 2, 32, 48)
#: How far a backend may be from the model in float32.
TOLERANCE = {"eager": 0.0, "compile": 1e-4, "onnx": 1e-4, "int8": 0.25, "cuda": 1e-3, "cuda_bf16": 0.1}


@pytest.fixture(scope="module")
def model() -> Any:
    import torch

    torch.manual_seed(0)
    return build_model(SHAPE, vocab_size=60, positions=24)


@pytest.fixture(scope="module", params=NAMES)
def prepared(request: pytest.FixtureRequest, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from bort.export.convert import onnx_file, quantise

    backend = BACKENDS[request.param]
    try:
        backend.require()
    except BortError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp(backend.name)
    forms = Forms("tiny", model, folder, converter=onnx_file, quantiser=quantise)
    return backend, backend.prepare(forms, 1)


def expected(model: Any, ids: Any, mask: Any) -> Any:
    import torch

    with torch.inference_mode():
        return first_output(model, {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}).numpy()


def test_every_name_is_a_backend() -> None:
    assert tuple(BACKENDS) == NAMES
    assert all(backend.name == name for name, backend in BACKENDS.items())


@pytest.mark.parametrize(("batch", "length"), [(2, 7), (1, 24)])
def test_the_output_is_the_model_s(prepared: Any, model: Any, batch: int, length: int, capfd: Any) -> None:
    backend, forward = prepared
    generator = np.random.default_rng(length)
    ids = generator.integers(1, 60, size=(batch, length))
    mask = np.ones_like(ids)
    mask[-1, max(1, length // 2) :] = 0
    found, wanted = forward(ids, mask), expected(model, ids, mask)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    kept = mask.astype(bool)
    assert np.abs(found - wanted)[kept].max() <= TOLERANCE[backend.name]
    assert capfd.readouterr() == ("", "")


def test_without_a_mask_nothing_is_padding(prepared: Any) -> None:
    _, forward = prepared
    ids = np.arange(1, 15).reshape(2, 7)
    assert np.array_equal(forward(ids), forward(ids, np.ones_like(ids)))


def test_the_model_is_left_as_it_was(prepared: Any, model: Any) -> None:
    import torch

    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_what_this_machine_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(ConfigurationError, match=r"unless g\+\+ or clang is installed"):
        BACKENDS["compile"].require()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ConfigurationError, match="cuda_bf16 is invalid: must be another backend: this machine has no GPU that PyTorch can use"
    ):
        BACKENDS["cuda_bf16"].require()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BortError, match="pip install 'bort"):
        BACKENDS["int8"].require()


def test_a_form_that_is_missing_is_named(tmp_path: Path, model: Any) -> None:
    with pytest.raises(BortError, match="file is an ONNX file, which eager cannot run"):
        BACKENDS["eager"].prepare(Forms("file", None, tmp_path, onnx=tmp_path / "m.onnx"), 1)
    with pytest.raises(BortError, match="tiny has no ONNX file: export it first"):
        BACKENDS["onnx"].prepare(Forms("tiny", model, tmp_path), 1)
    with pytest.raises(BortError, match="tiny has no int8 file: export it first"):
        BACKENDS["int8"].prepare(Forms("tiny", model, tmp_path), 1)
