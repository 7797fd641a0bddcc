"""What an export writes and how closely it is checked."""

from __future__ import annotations

from dataclasses import dataclass

from bort.errors import ConfigurationError

#: The ONNX operator sets that the exporter writes and current ONNX Runtimes read.
OPSETS = range(17, 26)
#: What MLflow's model registry does not take in a name.
NOT_IN_NAMES = ("/", ":", ".", "%", '"', "'")


@dataclass
class ExportConfig:
    """How a model is exported.

    Args:
        onnx: Whether ONNX is written beside the transformers directory.
        opset: ONNX operator set. From 20 on, GELU is one operator; ONNX Runtime 1.17 and later run it.
        optimised: Whether the graph as ONNX Runtime optimises it is written too; it starts faster, and only ONNX Runtime runs it.
        int8: Whether a dynamically quantised ONNX file is made, the embeddings included.
        int8_loss: How many points of the task's first metric int8 may lose on held-out data; with more, it is not kept.
        mlflow: Whether a directory that MLflow serves is written; where runs are tracked it is logged with the run, too.
        registered_model: Name in MLflow's model registry, of which the model becomes the next version; by default the run's name
            with the task's, ``student`` or ``model``, and empty for none.
        tolerance: Largest absolute difference between the outputs of ONNX and torch.
        checks: Batches of random lengths and masks on which they are compared.
        seed: Seed of those batches.
        licence: Licence of the exported weights for the model card, as the hub spells it, e.g. ``apache-2.0``; null for unknown.
        teacher_licence: The teacher's, in the same way.
        corpus_licence: The training text's.
        language: Language of the text the model reads, for the model card.
    """

    onnx: bool = True
    opset: int = 20
    optimised: bool = False
    int8: bool = False
    int8_loss: float = 0.5
    tolerance: float = 1e-4
    checks: int = 8
    seed: int = 0
    mlflow: bool = True
    registered_model: str | None = None
    licence: str | None = None
    teacher_licence: str | None = None
    corpus_licence: str | None = None
    language: str = "en"

    def check(self) -> None:
        """Refuses settings that cannot be exported with.

        Raises:
            ConfigurationError: The first setting that cannot be used.
        """
        if self.opset not in OPSETS:
            accepted = f"a whole number from {OPSETS[0]} to {OPSETS[-1]} is accepted"
            raise ConfigurationError("export.opset", self.opset, accepted)
        if not self.tolerance > 0:
            raise ConfigurationError("export.tolerance", self.tolerance, "a number above 0 is accepted")
        if self.checks < 1:
            raise ConfigurationError("export.checks", self.checks, "a whole number of at least 1 is accepted")
        if any(sign in (self.registered_model or "") for sign in NOT_IN_NAMES):
            accepted = f"a name without {' '.join(NOT_IN_NAMES)} is accepted"
            raise ConfigurationError("export.registered_model", self.registered_model, accepted)
        if self.int8_loss < 0:
            raise ConfigurationError("export.int8_loss", self.int8_loss, "a number of at least 0, in points, is accepted")
        for key in ("optimised", "int8"):
            if getattr(self, key) and not self.onnx:
                raise ConfigurationError(f"export.{key}", True, "it is made from the ONNX file, so export.onnx=true is needed")
