"""Errors without training: a table of measurements, and a scaling law."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bort.architecture import Architecture
from bort.candidate import Evaluation, Theta
from bort.errors import BortError, ConfigurationError
from bort.observer import Observer
from bort.search.table import ErrorTable, refused


class TableEstimator:
    """Errors read from a CSV file; its rungs are the steps that it holds.

    The table must hold every architecture of the space at every step that it holds at all; architectures outside the space are
    ignored. An error of 0 or ``inf`` stands for a candidate whose training failed. Where the table has a column ``seed``, the
    errors of one seed are read.

    Args:
        table: The table.
        shapes: The architectures of the search space, for which the table must be complete.
        seed: The seed of the errors; ``None`` for the lowest one.

    Raises:
        ConfigurationError: The table lacks a row or the seed.
    """

    name = "table"
    #: Answers come at once, so the search need not let go of the study between them.
    immediate = True

    def __init__(self, table: ErrorTable, shapes: Iterable[Architecture], seed: int | None = None) -> None:
        self._path, self.fingerprint = table.path, table.digest if seed is None else f"{table.digest} {seed}"
        self._errors: Mapping[tuple[Architecture, int], float] = table.of_seed(seed)
        wanted = list(shapes)
        inside = set(wanted)
        self._rungs = sorted({steps for shape, steps in self._errors if shape in inside})
        missing = [(shape, steps) for shape in wanted for steps in self._rungs or [0] if (shape, steps) not in self._errors]
        if missing:
            shape, steps = missing[0]
            where = f"{shape} at {steps} steps" if self._rungs else str(shape)
            raise refused(
                self._path,
                f"a table with every architecture of the search space at every step, and it lacks {len(missing)}: first {where}",
            )

    @property
    def rungs(self) -> Sequence[int]:
        """The steps that the table holds, ascending."""
        return self._rungs

    def with_errors(self, errors: Mapping[tuple[Architecture, int], float], fingerprint: str) -> TableEstimator:
        """Returns an estimator with the same rungs and other errors, for replays.

        Args:
            errors: By architecture and steps, for all that this one has errors of.
            fingerprint: What they are known by.
        """
        other = copy.copy(self)
        other._errors, other.fingerprint = errors, fingerprint
        return other

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        """Looks the error up; nothing is written to ``directory``. θ is not a column, so a table answers for the default θ alone.

        Raises:
            BortError: The table has no such row, or θ is not empty.
        """
        if theta:
            raise BortError("An error table knows no hyperparameters: with error=table, leave search.thetas at [{}].")
        try:
            return Evaluation(steps=steps, error=self._errors[architecture, steps])
        except KeyError:
            raise BortError(f"{self._path} has no error of {architecture} at {steps} steps.") from None


class ProxyEstimator:
    """An error from the size of the encoder alone, by a scaling law: the training-free baseline.

    LiteTransformerSearch (Javaheripi et al. 2022) ranks decoders by their parameters outside the embeddings; the law of Kaplan et
    al. (2020), (scale / parameters)^exponent, keeps that order and gives the ranking the unit of an error, which W needs.

    Args:
        scale: Parameters at which the law gives an error of 1.
        exponent: How fast the error falls with size.

    Raises:
        ConfigurationError: A number is not positive.
    """

    name = "proxy"
    immediate = True

    def __init__(self, scale: float, exponent: float) -> None:
        for key, value in (("scale", scale), ("exponent", exponent)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"error.{key}", value, "a number > 0")
        self._scale, self._exponent = scale, exponent
        self.fingerprint = f"{scale!r} {exponent!r}"

    @property
    def rungs(self) -> Sequence[int]:
        """One rung of no training at all."""
        return [0]

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        """Returns the law's error."""
        return Evaluation(steps=steps, error=(self._scale / architecture.encoder_parameters()) ** self._exponent)
