"""What can be said of the two quantities of a candidate that are not counted from its parameters: its error e and its latency i."""

from __future__ import annotations

from dataclasses import dataclass, field

from bort.errors import ConfigurationError
from bort.search.config import REQUIRED


@dataclass
class ErrorConfig:
    """Where the errors of candidates come from.

    Args:
        name: ``distill``, ``supernet``, ``table`` or ``proxy``.
    """

    name: str = REQUIRED


@dataclass
class DistillErrorConfig(ErrorConfig):
    """Short real distillation on common random numbers.

    Args:
        steps: n, the training steps of a candidate that is trained to the end.
        rungs: Points of the learning curve, the last at ``steps``; each is twice as far as the one before.
        curve: Step counts of the rungs, ascending, where halving is not wanted; the last is ``steps``. Replaces ``rungs``.
        measure: The held-out figure that is e: ``relation_cross_entropy``, ``relation_kl``, ``kl``, ``cross_entropy`` or
            ``hidden_mse``.
        loss: Weights of loss terms that replace those of ``loss`` for the candidates; a term that learns nothing within so few
            steps only blurs their order.
    """

    name: str = "distill"
    steps: int = 100
    rungs: int = 3
    curve: list[int] = field(default_factory=list)
    measure: str = "relation_cross_entropy"
    loss: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Refuses rungs that do not lead up to ``steps``.

        Raises:
            ConfigurationError: There are no steps or no rungs, too many rungs, or a curve that does not end at ``steps``.
        """
        if self.steps < 1:
            raise ConfigurationError("error.steps", self.steps, "a whole number of at least 1 is needed")
        if self.curve:
            if self.curve != sorted(set(self.curve)) or self.curve[0] < 1 or self.curve[-1] != self.steps:
                raise ConfigurationError(
                    "error.curve", self.curve, f"ascending whole numbers from 1 up to error.steps ({self.steps}) are needed"
                )
        elif self.rungs < 1 or self.steps >> (self.rungs - 1) < 1:
            most = self.steps.bit_length()
            raise ConfigurationError(
                "error.rungs", self.rungs, f"a whole number from 1 to {most} is needed, as each rung halves error.steps"
            )

    def rung_steps(self) -> list[int]:
        """Returns the step counts of the rungs, ascending."""
        return list(self.curve) or [self.steps >> rung for rung in reversed(range(self.rungs))]


@dataclass
class SupernetErrorConfig(ErrorConfig):
    """One weight-sharing student, trained once, of which every candidate is a slice.

    Args:
        steps: Steps of the shared training.
        samples: Slices drawn evenly from the space in each step.
        sandwich: Whether the largest and the smallest slice are in every step too.
        checkpoint_every: Steps between two checkpoints of the shared training.
        measure: The held-out figure that is e, as for ``distill``.
        loss: Weights of loss terms that replace those of ``loss``.
        reference: A CSV file of errors of full trainings (or ``bortbench``), which these errors are compared with; none if empty.
    """

    name: str = "supernet"
    steps: int = 400
    samples: int = 2
    sandwich: bool = True
    checkpoint_every: int = 100
    measure: str = "relation_cross_entropy"
    loss: dict[str, float] = field(default_factory=dict)
    reference: str | None = None

    def check(self) -> None:
        """Refuses numbers that cannot be used.

        Raises:
            ConfigurationError: Nothing would be trained.
        """
        for key, least in (("steps", 1), ("samples", 0 if self.sandwich else 1), ("checkpoint_every", 1)):
            if getattr(self, key) < least:
                raise ConfigurationError(f"error.{key}", getattr(self, key), f"a whole number of at least {least} is needed")


@dataclass
class TableErrorConfig(ErrorConfig):
    """Errors read from a table instead of trained for.

    Args:
        path: A CSV file with the columns depth, heads, hidden, intermediate, steps and error, or ``bortbench`` for the table that
            comes with Bort.
        column: The column that is e.
        seed: Which rows are read where there is a column ``seed``; null for the lowest seed.
        embedding_rows: Rows of all embeddings together (words, positions, token types), which p counts; null for the paper's
            50,265 words and 512 positions.
    """

    name: str = "table"
    path: str = REQUIRED
    column: str = "error"
    seed: int | None = None
    embedding_rows: int | None = None


@dataclass
class ProxyErrorConfig(ErrorConfig):
    """An error guessed from the parameters outside the embeddings, without training: (scale / parameters)^exponent.

    The defaults are the scaling law of Kaplan et al. (2020, arXiv:2001.08361, equation 1.1), in nats.

    Args:
        scale: Parameters at which the law would give an error of 1.
        exponent: How fast the error falls with size.
        reference: A CSV file of errors of full trainings (or ``bortbench``), which these errors are compared with; none if empty.
    """

    name: str = "proxy"
    scale: float = 8.8e13
    exponent: float = 0.076
    reference: str | None = None


@dataclass
class LatencyConfig:
    """What stands for inference latency, i.

    Args:
        name: ``operations``, ``cpu``, ``gpu`` or ``onnx``.
        sequence_length: Tokens of the sequence that is counted or measured.
    """

    name: str = REQUIRED
    sequence_length: int = 128

    def check(self) -> None:
        """Refuses a sequence of no tokens.

        Raises:
            ConfigurationError: ``sequence_length`` is below 1.
        """
        if self.sequence_length < 1:
            raise ConfigurationError("latency.sequence_length", self.sequence_length, "a whole number of at least 1 is needed")


@dataclass
class OperationsLatencyConfig(LatencyConfig):
    """The paper's surrogate: multiply-adds of one forward pass, counted in closed form."""

    name: str = "operations"


@dataclass
class MeasuredLatencyConfig(LatencyConfig):
    """The median time of one forward pass of the encoder, in milliseconds, measured on this machine before the search begins.

    Args:
        batch: Sequences in one call.
        repeats: Timed calls of each shape, in rounds in which every shape is called once.
        warmup: Rounds before them that do not count.
        threads: Processor threads; null for all that the process may use. On a GPU they only feed it.
    """

    batch: int = 1
    repeats: int = 30
    warmup: int = 3
    threads: int | None = 1

    def check(self) -> None:
        """Refuses settings that cannot be measured.

        Raises:
            ConfigurationError: A number is too small.
        """
        super().check()
        for key, least in (("batch", 1), ("repeats", 5), ("warmup", 0)):
            if getattr(self, key) < least:
                raise ConfigurationError(f"latency.{key}", getattr(self, key), f"a whole number of at least {least} is needed")
        if self.threads is not None and self.threads < 1:
            raise ConfigurationError("latency.threads", self.threads, "a whole number of at least 1, or null, is needed")


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
