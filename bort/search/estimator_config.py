"""What can be said of the two quantities of a candidate that are not counted from its parameters: its error e and its latency i."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from bort.errors import ConfigurationError
from bort.search.config import REQUIRED


@dataclass
class ErrorConfig:
    """Where the errors of candidates come from."""

    name: str = REQUIRED
    """``distill``, ``supernet``, ``table`` or ``proxy``."""


@dataclass
class DistillErrorConfig(ErrorConfig):
    """Short real distillation on common random numbers."""

    name: str = "distill"

    steps: Annotated[int, Ge(1)] = 100
    """n, the training steps of a candidate that is trained to the end."""

    rungs: Annotated[int, Ge(1)] = 3
    """Points of the learning curve, the last at ``steps``; each is twice as far as the one before."""

    curve: list[Annotated[int, Ge(1)]] = field(default_factory=list)
    """Step counts of the rungs, ascending, where halving is not wanted; the last is ``steps``. Replaces
    ``rungs``.
    """

    measure: str = "relation_cross_entropy"
    """The held-out figure that is e: ``relation_cross_entropy``, ``relation_kl``, ``kl``, ``cross_entropy``
    or ``hidden_mse``.
    """

    loss: dict[str, float] = field(default_factory=dict)
    """Weights of loss terms that replace those of ``loss`` for the candidates; a term that learns nothing
    within so few steps only blurs their order.
    """

    def check(self, key: str) -> None:
        """Refuse rungs that do not lead up to ``steps``."""
        if self.curve:
            if self.curve != sorted(set(self.curve)) or self.curve[-1] != self.steps:
                accepted = f"must be an ascending list of integers >= 1 that ends in {key}.steps={self.steps}"
                raise ConfigurationError(f"{key}.curve", self.curve, accepted)
        elif self.steps >> (self.rungs - 1) < 1:
            accepted = f"must be an integer in [1, {self.steps.bit_length()}], as each rung halves {key}.steps"
            raise ConfigurationError(f"{key}.rungs", self.rungs, accepted)

    def rung_steps(self) -> list[int]:
        """Returns the step counts of the rungs, ascending."""
        return list(self.curve) or [self.steps >> rung for rung in reversed(range(self.rungs))]


@dataclass
class SupernetErrorConfig(ErrorConfig):
    """One weight-sharing student, trained once, of which every candidate is a slice."""

    name: str = "supernet"

    steps: Annotated[int, Ge(1)] = 400
    """Steps of the shared training."""

    samples: Annotated[int, Ge(0)] = 2
    """Slices drawn evenly from the space in each step."""

    sandwich: bool = True
    """Whether the largest and the smallest slice are in every step too."""

    checkpoint_every: Annotated[int, Ge(1)] = 100
    """Steps between two checkpoints of the shared training."""

    measure: str = "relation_cross_entropy"
    """The held-out figure that is e, as for ``distill``."""

    loss: dict[str, float] = field(default_factory=dict)
    """Weights of loss terms that replace those of ``loss``."""

    reference: str | None = None
    """A CSV file of errors of full trainings (or ``bortbench``), which these errors are compared with; none
    if empty.
    """

    def check(self, key: str) -> None:
        """Refuse steps without any slice."""
        if self.samples == 0 and not self.sandwich:
            raise ConfigurationError(f"{key}.samples", 0, f"must be an integer >= 1 with {key}.sandwich=false")


@dataclass
class TableErrorConfig(ErrorConfig):
    """Errors read from a table instead of trained for."""

    name: str = "table"

    path: str = REQUIRED
    """A CSV file with the columns depth, heads, hidden, intermediate, steps and error, or ``bortbench`` for
    the table that comes with Bort.
    """

    column: str = "error"
    """The column that is e."""

    seed: int | None = None
    """Which rows are read where there is a column ``seed``; null for the lowest seed."""

    embedding_rows: int | None = None
    """Rows of all embeddings together (words, positions, token types), which p counts; null for the paper's
    50,265 words and 512 positions.
    """


@dataclass
class ProxyErrorConfig(ErrorConfig):
    """An error guessed from the parameters outside the embeddings, without training: (scale / parameters)^exponent.

    The defaults are the scaling law of Kaplan et al. (2020, arXiv:2001.08361, equation 1.1), in nats.
    """

    name: str = "proxy"

    scale: float = 8.8e13
    """Parameters at which the law would give an error of 1."""

    exponent: float = 0.076
    """How fast the error falls with size."""

    reference: str | None = None
    """A CSV file of errors of full trainings (or ``bortbench``), which these errors are compared with; none
    if empty.
    """


@dataclass
class LatencyConfig:
    """What stands for inference latency, i."""

    name: str = REQUIRED
    """``operations``, ``cpu``, ``gpu`` or ``onnx``."""

    sequence_length: Annotated[int, Ge(1)] = 128
    """Tokens of the sequence that is counted or measured."""


@dataclass
class OperationsLatencyConfig(LatencyConfig):
    """The paper's surrogate: multiply-adds of one forward pass, counted in closed form."""

    name: str = "operations"


@dataclass
class MeasuredLatencyConfig(LatencyConfig):
    """The median time of one forward pass of the encoder, in milliseconds, measured on this machine before the search begins."""

    batch: Annotated[int, Ge(1)] = 1
    """Sequences in one call."""

    repeats: Annotated[int, Ge(5)] = 30
    """Timed calls of each shape, in rounds in which every shape is called once."""

    warmup: Annotated[int, Ge(0)] = 3
    """Rounds before them that do not count."""

    threads: Annotated[int, Ge(1)] | None = 1
    """Processor threads; null for all that the process may use. On a GPU they only feed it."""


@dataclass
class CpuLatencyConfig(MeasuredLatencyConfig):
    """PyTorch on the processor."""

    name: str = "cpu"


@dataclass
class GpuLatencyConfig(MeasuredLatencyConfig):
    """PyTorch on a CUDA device."""

    name: str = "gpu"


@dataclass
class OnnxLatencyConfig(MeasuredLatencyConfig):
    """ONNX Runtime on the processor. Every shape is converted first, which takes some seconds each."""

    name: str = "onnx"
