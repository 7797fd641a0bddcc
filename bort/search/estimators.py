"""Errors without training: a table of measurements, and a scaling law."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from bort.architecture import Architecture
from bort.candidate import Evaluation, Theta
from bort.errors import BortError, ConfigurationError
from bort.observer import Observer
from bort.search.estimator_config import ProxyErrorConfig, TableErrorConfig
from bort.search.space import SearchSpace
from bort.search.table import read_table, refused


class TableEstimator:
    """Errors read from a CSV file; its rungs are the steps that it holds.

    The table must hold every architecture of the space at every step that it holds at all; architectures outside the space are
    ignored. An error of 0 or ``inf`` stands for a candidate whose training failed. Where the table has a column ``seed``, the
    errors of one seed are read.

    Args:
        config: Where the file is, and what of it is read.
        space: The space to be searched, for which the table must be complete; unchecked when not given.

    Raises:
        ConfigurationError: The file cannot be read, lacks a column, a row or the seed, or holds a repeated row, a negative error
            or one that is not a number.
    """

    name = "table"
    #: Answers come at once, so the search need not let go of the study between them.
    immediate = True

    def __init__(self, config: TableErrorConfig, space: SearchSpace | None = None) -> None:
        table = read_table(config)
        self._path, self.fingerprint = table.path, table.digest if config.seed is None else f"{table.digest} {config.seed}"
        self._errors: Mapping[tuple[Architecture, int], float] = table.of_seed(config.seed)
        shapes = {shape for shape, _ in self._errors}
        wanted = list(space) if space is not None else sorted(shapes)
        inside = set(wanted)
        self._rungs = sorted({steps for shape, steps in self._errors if shape in inside})
        missing = [(shape, steps) for shape in wanted for steps in self._rungs or [0] if (shape, steps) not in self._errors]
        if missing:
            shape, steps = missing[0]
            where = f"{shape} at {steps} steps" if self._rungs else str(shape)
            raise refused(
                self._path,
                f"it must hold every architecture of the search space at every step, and lacks {len(missing)}: first {where}",
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
        config: The law's two numbers.
    """

    name = "proxy"
    immediate = True

    def __init__(self, config: ProxyErrorConfig) -> None:
        for key in ("scale", "exponent"):
            value = getattr(config, key)
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"error.{key}", value, "a positive number is needed")
        self._scale, self._exponent = config.scale, config.exponent
        self.fingerprint = f"{config.scale!r} {config.exponent!r}"

    @property
    def rungs(self) -> Sequence[int]:
        """One rung of no training at all."""
        return [0]

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        """Returns the law's error."""
        return Evaluation(steps=steps, error=(self._scale / architecture.encoder_parameters()) ** self._exponent)
