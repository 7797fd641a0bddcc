"""From a model to its series: one callable for each backend that can run it, and what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.measure.backends import BACKENDS, Converter, Forms, Forward, Quantiser
from bort.measure.config import BenchmarkConfig
from bort.measure.harness import Ids, Series
from bort.measure.models import ENCODER, build_model, load_model
from bort.measure.published import PublishedModel
from bort.measure.runtime import open_session, vocabulary_and_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: What a user's way of naming a model stands for: a directory or an ONNX file, a shape, a model of the literature.
Subject = Path | Architecture | PublishedModel


def backends_of(subject: Subject, config: BenchmarkConfig) -> list[str]:
    """Returns the backends that can run a subject: of an ONNX file that is onnx alone."""
    if isinstance(subject, Path) and subject.suffix == ".onnx":
        return [name for name in config.backends if name == "onnx"]
    return list(config.backends)


def accelerator(config: BenchmarkConfig) -> dict[str, str]:
    """Returns the GPU that a measurement uses, as ``accelerator``; nothing where it uses none."""
    if not any(BACKENDS[name].device == "cuda" for name in config.backends):
        return {}
    import torch

    return {"accelerator": torch.cuda.get_device_name()}


class Maker:
    """Makes the series of models.

    Args:
        config: Backends and part.
        threads: Threads of ONNX Runtime; torch's are the caller's to set.
        converter: Makes ONNX files.
        quantiser: Makes int8 files.
    """

    def __init__(
        self, config: BenchmarkConfig, threads: int, converter: Converter | None = None, quantiser: Quantiser | None = None
    ) -> None:
        self.config, self.threads, self.converter, self.quantiser = config, threads, converter, quantiser

    def make(self, name: str, subject: Subject, folder: Path, only: str | None = None) -> tuple[list[Series], dict[str, Any], int]:
        """Returns the series of a subject, what is known of it, and the size of its vocabulary.

        Args:
            name: Its name in the table.
            subject: The model.
            folder: Where files that have to be made go.
            only: The one backend that is wanted; None for all that can run it.
        """
        forms = self.forms(name, subject, folder)
        if forms.model is None:
            file = forms.full()
            facts: dict[str, Any] = {"from": str(file), "bytes": file.stat().st_size}
            return self._series(forms, backends_of(subject, self.config), facts), facts, _vocabulary(file)
        series, facts = self.of_model(forms, subject.name if isinstance(subject, PublishedModel) else str(subject), only)
        return series, facts, int(forms.model.config.vocab_size)

    def forms(self, name: str, subject: Subject, folder: Path) -> Forms:
        """Returns a subject in memory, or its file, and how to make what is missing."""
        if isinstance(subject, Path) and subject.suffix == ".onnx":
            return Forms(name, None, folder, onnx=subject)
        whole = self.config.part == "whole"
        model = load_model(subject, None if whole else ENCODER) if isinstance(subject, Path) else build_model(subject)
        if not whole:
            model = without_pooler(model)
        # An export keeps the ONNX files of the whole model beside its transformers directory.
        exported = subject.parent / "onnx" if whole and isinstance(subject, Path) and subject.name == "transformers" else None
        ready = (_ready(exported, "model"), _ready(exported, "model_int8"))
        return Forms(name, model, folder, *ready, self.converter, self.quantiser)

    def of_model(self, forms: Forms, origin: str, only: str | None = None) -> tuple[list[Series], dict[str, Any]]:
        """Returns the series of a model in memory and what is known of it.

        Args:
            forms: The model.
            origin: What it stands for.
            only: The one backend that is wanted; None for all.
        """
        model = forms.model
        if model is None:
            raise TypeError(f"{forms.name} is not in memory.")
        facts = {
            "from": origin,
            "class": type(model).__name__,
            "architecture": _architecture(model),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        return self._series(forms, [only] if only else list(self.config.backends), facts), facts

    def _series(self, forms: Forms, backends: list[str], facts: dict[str, Any]) -> list[Series]:
        series = []
        for name in backends:
            forward = BACKENDS[name].prepare(forms, self.threads)
            if forward.file is not None:
                facts[f"{name}_bytes"] = forward.file.stat().st_size
            series.append(Series(forms.name, name, _call(forward)))
        return series


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """Takes out an encoder's pooler: its output does not pass through it, and ONNX leaves it out."""
    if hasattr(model, "pooler"):
        model.pooler = None
    return model


def _call(forward: Forward) -> Any:
    import numpy as np

    def call(input_ids: Ids) -> object:
        return forward.run(input_ids, np.ones_like(input_ids))

    return call


def _ready(folder: Path | None, name: str) -> Path | None:
    path = folder / f"{name}.onnx" if folder else None
    return path if path and path.is_file() else None


def _vocabulary(path: Path) -> int:
    return vocabulary_and_positions(open_session(path))[0]


def _architecture(model: PreTrainedModel) -> str | None:
    config = model.config
    fields = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    values = [value for name in fields if isinstance(value := getattr(config, name, None), int)]
    return str(Architecture(*values)) if len(values) == len(fields) else None
