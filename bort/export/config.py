"""Settings of an export and of its checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Interval

from bort.errors import ConfigurationError
from bort.settings import Rule

#: Characters that MLflow's model registry refuses in a name.
NOT_IN_NAMES = ("/", ":", ".", "%", '"', "'")


def _registrable(name: str) -> bool:
    return not any(sign in name for sign in NOT_IN_NAMES)


@dataclass
class ExportConfig:
    """Formats, checks and model card of an export."""

    onnx: bool = True
    """Whether ONNX is written beside the transformers directory."""

    opset: Annotated[int, Interval(ge=17, le=25)] = 20
    """ONNX operator set: the exporter writes 17 to 25. From 20 on, GELU is one operator; ONNX Runtime 1.17
    and later run it.
    """

    optimised: bool = False
    """Whether the graph optimized by ONNX Runtime is written too; it starts faster, and only ONNX Runtime
    runs it.
    """

    int8: bool = False
    """Whether a dynamically quantized ONNX file is made, embeddings included."""

    int8_loss: Annotated[float, Ge(0)] = 0.5
    """Largest loss of int8 in points of the task's first metric on held-out data; above it, the file is
    dropped.
    """

    tolerance: Annotated[float, Gt(0)] = 1e-4
    """Largest absolute difference between the outputs of ONNX and torch."""

    checks: Annotated[int, Ge(1)] = 8
    """Batches of random lengths and masks for that comparison."""

    seed: int = 0
    """Seed of those batches."""

    mlflow: bool = True
    """Whether a directory for ``mlflow models serve`` is written; if runs are tracked, it is also logged with
    the run.
    """

    registered_model: Annotated[str, Rule(f"a name without {' '.join(NOT_IN_NAMES)}", _registrable)] | None = None
    """Name in MLflow's model registry, of which the model becomes the next version; ``null`` for the run's
    name with the task's, ``student`` or ``model``, and empty for none.
    """

    licence: str | None = None
    """License of the exported weights for the model card, as the hub spells it, e.g. ``apache-2.0``; ``null``
    for unknown.
    """

    teacher_licence: str | None = None
    """License of the teacher, spelled likewise."""

    corpus_licence: str | None = None
    """License of the training text."""

    language: str = "en"
    """Language of the model's text, for the model card."""

    def check(self, key: str) -> None:
        """Refuse a file made from ONNX without ONNX."""
        for name in ("optimised", "int8"):
            if getattr(self, name) and not self.onnx:
                raise ConfigurationError(f"{key}.{name}", True, f"false with {key}.onnx=false")
