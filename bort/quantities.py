"""The two quantities of a candidate that are not counted from its parameters: its error e and its latency i.

Each comes from a settings class in a registry, so that a search can be composed of parts that know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from bort.architecture import Architecture
from bort.candidate import Estimator
from bort.errors import BortError
from bort.observer import Observer, Quiet
from bort.registry import REQUIRED, Registry
from bort.runtime_config import ImplConfig


def _untrainable() -> Any:
    raise BortError("This search has no teacher and no corpus, so no candidate can be trained.")


@dataclass(frozen=True)
class ErrorInputs:
    """What an estimator is built from.

    Args:
        shapes: The architectures of the search space, in its order.
        directory: The search's directory, for what an estimator keeps for all candidates.
        setup: Opens what candidates are trained on, a :class:`~bort.distillation.setup.DistillationSetup`; only for an error with
            ``trains``.
        impl: Device, precision and threads of a candidate's training.
    """

    shapes: Sequence[Architecture] = ()
    directory: Path = Path()
    setup: Callable[[], Any] = _untrainable
    impl: ImplConfig = field(default_factory=ImplConfig)


@dataclass
class ErrorConfig:
    """The source of the candidates' errors."""

    name: str = REQUIRED
    """The source's name in the registry."""

    #: Whether candidates are trained, so that the search needs the stages ``corpus`` and ``teacher``.
    trains: ClassVar[bool] = False
    #: Why only the default θ can be evaluated; empty if any can.
    only_default_theta: ClassVar[str] = ""

    def build(self, inputs: ErrorInputs) -> Estimator:
        """Build the estimator.

        Raises:
            ConfigurationError: The source is unknown, or its settings are invalid.
        """
        raise ERRORS.unknown(self.name)

    def sources(self) -> Mapping[str, str]:
        """Return the digests of the files that the errors are read from, by name."""
        return {}


ERRORS: Registry[ErrorConfig] = Registry("error")


@dataclass(frozen=True)
class Latency:
    """The latencies of a search space.

    Args:
        of: Returns i of an architecture, always the same.
        circumstances: Unit, sequence length, and how it was measured.
        percentiles: Percentiles of a measured latency, in milliseconds.
    """

    of: Callable[[Architecture], float]
    circumstances: Mapping[str, Any]
    percentiles: Mapping[Architecture, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class LatencyInputs:
    """What latencies are built from.

    Args:
        shapes: The architectures whose latency is needed, T among them.
        directory: The search's directory, for the record of a measurement.
        counts: Rows of the embeddings: ``vocab_size``, ``positions`` and ``token_types``.
        observer: Receives progress and warnings.
    """

    shapes: Sequence[Architecture] = ()
    directory: Path = Path()
    counts: Mapping[str, int] = field(default_factory=dict)
    observer: Observer = field(default_factory=Quiet)


@dataclass
class LatencyConfig:
    """The measure of inference latency, i."""

    name: str = REQUIRED
    """The latency's name in the registry."""

    sequence_length: Annotated[int, Ge(1)] = 128
    """Tokens of the sequence that is counted or measured."""

    #: Whether :meth:`build` measures, which takes time; a configuration is checked with counted operations instead.
    measures: ClassVar[bool] = False

    def check_machine(self, positions: int) -> None:
        """Refuse a latency that this machine cannot measure.

        Args:
            positions: Longest sequence of the candidates.
        """

    def build(self, inputs: LatencyInputs) -> Latency:
        """Count or measure the latencies.

        Raises:
            ConfigurationError: The latency is unknown.
        """
        raise LATENCIES.unknown(self.name)


LATENCIES: Registry[LatencyConfig] = Registry("latency")


@LATENCIES.register
@dataclass
class OperationsLatencyConfig(LatencyConfig):
    """The paper's surrogate: multiply-adds of one forward pass, counted in closed form."""

    name: str = "operations"

    def build(self, inputs: LatencyInputs) -> Latency:
        """Return the operations of one forward pass."""
        length = self.sequence_length
        circumstances = {"unit": "multiply-adds", "sequence_length": length, "batch": 1}
        return Latency(lambda architecture: architecture.operations(length), circumstances)
