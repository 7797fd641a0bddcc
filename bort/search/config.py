"""What can be said of a search: its space, its strategy, where errors come from and where the study is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bort.errors import ConfigurationError

#: What a required setting holds until it is given; OmegaConf knows it by the same sign.
REQUIRED = "???"

ERROR_SCALES = ("reciprocal", "relative", "complement")


@dataclass
class SearchSpaceConfig:
    """The search space Ξ: every valid combination of the lists.

    Args:
        depth: Numbers of layers.
        heads: Numbers of attention heads; combinations whose hidden size is not a multiple are left out.
        hidden: Hidden sizes.
        intermediate: Widths of the feed-forward layer.
        maximum_point: T, which fixes the scale of W: ``teacher`` (its shape, or 24-16-1024-4096 where there is none), ``largest``
            (of the space), or a shape such as ``24-16-1024-4096``.
    """

    depth: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    intermediate: list[int] = field(default_factory=list)
    maximum_point: str = "teacher"


@dataclass
class SearchConfig:
    """What is asked of the winner, and how W is made.

    Args:
        max_parameters: Largest p allowed; no limit when empty.
        max_operations: Largest count of multiply-adds allowed; no limit when empty.
        max_latency_ms: Largest measured latency allowed, in milliseconds; no limit when empty. Needs a measured latency.
        thetas: Θ, the hyperparameter sets: training settings that replace the defaults. Each is tried with each architecture.
        error_scale: How e enters W: ``reciprocal`` 1/e, ``relative`` e(T)/e, or ``complement`` 1 − e.
        maximum_point_error: e(T), for ``relative``.
    """

    max_parameters: int | None = None
    max_operations: int | None = None
    max_latency_ms: float | None = None
    thetas: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    error_scale: str = "reciprocal"
    maximum_point_error: float | None = None

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A limit is not positive, Θ is empty or repeats itself, or the scale of e is unknown or incomplete.
        """
        for key in ("max_parameters", "max_operations", "max_latency_ms"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ConfigurationError(f"search.{key}", value, "a positive number is needed, or null for no limit")
        if not self.thetas:
            raise ConfigurationError(
                "search.thetas", self.thetas, "at least one hyperparameter set is needed; [{}] is the default one"
            )
        if any(theta in self.thetas[:index] for index, theta in enumerate(self.thetas)):
            raise ConfigurationError("search.thetas", self.thetas, "every hyperparameter set must differ from the others")
        if self.error_scale not in ERROR_SCALES:
            raise ConfigurationError("search.error_scale", self.error_scale, f"use one of {', '.join(ERROR_SCALES)}")
        if self.error_scale == "relative" and not (self.maximum_point_error or 0.0) > 0:
            raise ConfigurationError(
                "search.maximum_point_error", self.maximum_point_error, "error_scale=relative needs e(T), a positive number"
            )


@dataclass
class StrategyConfig:
    """How the search goes about it.

    Args:
        name: ``ose``, ``random``, ``tpe``, ``nsga2`` or ``bound``.
    """

    name: str = REQUIRED


@dataclass
class OseConfig(StrategyConfig):
    """The paper's algorithm: every ε-th architecture of the ordered space is trained to the last step.

    Args:
        stride: ε, from 1 (exhaustive) to the size of the space.
    """

    name: str = "ose"
    stride: int = 1


@dataclass
class RandomConfig(StrategyConfig):
    """Candidates drawn evenly from the space.

    Args:
        trials: Distinct candidates to train; repeated draws are answered from memory and not counted.
    """

    name: str = "random"
    trials: int = 30


@dataclass
class TpeConfig(StrategyConfig):
    """Optuna's tree-structured Parzen estimator, which maximises W.

    Args:
        trials: Distinct candidates to train; repeated proposals are answered from memory and not counted.
        startup: Random candidates before the estimator starts.
    """

    name: str = "tpe"
    trials: int = 30
    startup: int = 10


@dataclass
class Nsga2Config(StrategyConfig):
    """Optuna's genetic algorithm on the three objectives p, i and e.

    Args:
        trials: Distinct candidates to train; repeated proposals are answered from memory and not counted.
        population: Size of a generation.
    """

    name: str = "nsga2"
    trials: int = 30
    population: int = 10


@dataclass
class BoundConfig(StrategyConfig):
    """p and i are known, so only e is bought, where a bound says that it can still decide the winner.

    Args:
        budget: Training steps to spend at most, as a share of what the exhaustive search would cost.
        confidence: How sure the bound is: the search ends when the chance that any dropped candidate is better than the winner is
            below 1 − confidence, under the assumptions that the certificate states.
        minimum_full: Full trainings that are allowed even where ``budget`` does not pay for so many; for small spaces.
    """

    name: str = "bound"
    budget: float = 0.1
    confidence: float = 0.99
    minimum_full: int = 3


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


@dataclass
class StorageConfig:
    """Where the study is kept, so that any number of workers share it and it survives them.

    Args:
        name: ``journal``, ``postgres`` or ``memory`` (for replays: nothing is kept).
        study: The study's name within the storage.
    """

    name: str = REQUIRED
    study: str = "search"


@dataclass
class MemoryStorageConfig(StorageConfig):
    """A study that lives as long as its process; for replays and tests."""

    name: str = "memory"


@dataclass
class JournalStorageConfig(StorageConfig):
    """A journal file: nothing has to be started. Workers on several machines need a file system that they share, with locks.

    Args:
        path: The file; by default ``study.journal`` in the search's directory.
    """

    name: str = "journal"
    path: str | None = None


@dataclass
class PostgresStorageConfig(StorageConfig):
    """A PostgreSQL database.

    Args:
        url: ``postgresql://user:password@host:port/database``.
    """

    name: str = "postgres"
    url: str = REQUIRED
