"""What an export writes and how closely it is checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Interval

from bort.errors import ConfigurationError
from bort.settings import Rule

#: What MLflow's model registry does not take in a name.
NOT_IN_NAMES = ("/", ":", ".", "%", '"', "'")


def _registrable(name: str) -> bool:
    return not any(sign in name for sign in NOT_IN_NAMES)


@dataclass
class ExportConfig:
    """How a model is exported."""

    onnx: bool = True
    """Whether ONNX is written beside the transformers directory."""

    opset: Annotated[int, Interval(ge=17, le=25)] = 20
    """ONNX operator set. From 20 on, GELU is one operator; ONNX Runtime 1.17 and later run it."""

    optimised: bool = False
    """Whether the graph as ONNX Runtime optimises it is written too; it starts faster, and only ONNX Runtime
    runs it.
    """

    int8: bool = False
    """Whether a dynamically quantised ONNX file is made, the embeddings included."""

    int8_loss: Annotated[float, Ge(0)] = 0.5
    """How many points of the task's first metric int8 may lose on held-out data; with more, it is not kept.
    """

    tolerance: Annotated[float, Gt(0)] = 1e-4
    """Largest absolute difference between the outputs of ONNX and torch."""

    checks: Annotated[int, Ge(1)] = 8
    """Batches of random lengths and masks on which they are compared."""

    seed: int = 0
    """Seed of those batches."""

    mlflow: bool = True
    """Whether a directory that MLflow serves is written; where runs are tracked it is logged with the run,
    too.
    """

    registered_model: Annotated[str, Rule(f"a name without {' '.join(NOT_IN_NAMES)}", _registrable)] | None = None
    """Name in MLflow's model registry, of which the model becomes the next version; by default the run's name
    with the task's, ``student`` or ``model``, and empty for none.
    """

    licence: str | None = None
    """Licence of the exported weights for the model card, as the hub spells it, e.g. ``apache-2.0``; null for
    unknown.
    """

    teacher_licence: str | None = None
    """The teacher's, in the same way."""

    corpus_licence: str | None = None
    """The training text's."""

    language: str = "en"
    """Language of the text the model reads, for the model card."""

    def check(self, key: str) -> None:
        """Refuse a file made from ONNX without ONNX."""
        for name in ("optimised", "int8"):
            if getattr(self, name) and not self.onnx:
                raise ConfigurationError(f"{key}.{name}", True, f"must be false with {key}.onnx=false")
