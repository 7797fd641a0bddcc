"""Errors without training: a table of measurements, and a scaling law."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from bort.architecture import Architecture
from bort.candidate import Evaluation, Theta
from bort.errors import BortError, ConfigurationError
from bort.events import Observer
from bort.search.config import ProxyErrorConfig, TableErrorConfig
from bort.search.space import SearchSpace

COLUMNS = ("depth", "heads", "hidden", "intermediate", "steps", "error")


class TableEstimator:
    """Errors read from a CSV file; its rungs are the steps that it holds.

    The table must hold every architecture of the space at every step that it holds at all; architectures outside the space are
    ignored. An error of 0 or ``inf`` stands for a candidate whose training failed.

    Args:
        config: Where the file is.
        space: The space to be searched, for which the table must be complete; unchecked when not given.

    Raises:
        ConfigurationError: The file cannot be read, lacks a column or a row, or holds a repeated row, a negative error or one
            that is not a number.
    """

    name = "table"
    #: Answers come at once, so the search need not let go of the study between them.
    immediate = True

    def __init__(self, config: TableErrorConfig, space: SearchSpace | None = None) -> None:
        self._path = Path(config.path)
        self._errors, self.fingerprint = _read(self._path)
        shapes = {shape for shape, _ in self._errors}
        wanted = list(space) if space is not None else sorted(shapes)
        inside = set(wanted)
        self._rungs = sorted({steps for shape, steps in self._errors if shape in inside})
        missing = [(shape, steps) for shape in wanted for steps in self._rungs or [0] if (shape, steps) not in self._errors]
        if missing:
            shape, steps = missing[0]
            where = f"{shape} at {steps} steps" if self._rungs else str(shape)
            raise _refused(
                self._path,
                f"it must hold every architecture of the search space at every step, and lacks {len(missing)}: first {where}",
            )

    @property
    def rungs(self) -> Sequence[int]:
        """The steps that the table holds, ascending."""
        return self._rungs

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


def _refused(path: Path, accepted: str) -> ConfigurationError:
    return ConfigurationError("error.path", path, accepted)


def _read(path: Path) -> tuple[dict[tuple[Architecture, int], float], str]:
    """Reads and checks the rows of a table; returns the errors and the digest of the bytes that were read."""
    errors: dict[tuple[Architecture, int], float] = {}
    try:
        content = path.read_bytes()
        reader = csv.DictReader(content.decode("utf-8-sig").splitlines(), skipinitialspace=True)
        absent = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
        if absent:
            raise _refused(path, f"a CSV file with the columns {', '.join(COLUMNS)} is needed, and it lacks {', '.join(absent)}")
        for row in reader:
            key, error = _parse(path, reader.line_num, row)
            if key in errors:
                raise _refused(path, f"line {reader.line_num} repeats {key[0]} at {key[1]} steps; each may stand there once")
            errors[key] = error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _refused(path, f"a readable CSV file is needed ({error})") from error
    if not errors:
        raise _refused(path, "the table holds no rows")
    return errors, hashlib.sha256(content).hexdigest()


def _parse(path: Path, line: int, row: dict[str, str]) -> tuple[tuple[Architecture, int], float]:
    try:
        depth, heads, hidden, intermediate, steps = (int(row[column]) for column in COLUMNS[:5])
        error = float(row["error"])
        shape = Architecture(depth, heads, hidden, intermediate)
    except (TypeError, ValueError) as problem:
        raise _refused(path, f"line {line} must hold whole numbers and an error ({problem})") from problem
    except BortError as problem:
        raise _refused(path, f"line {line} holds no architecture ({problem})") from problem
    if steps < 1:
        raise _refused(path, f"line {line} has steps={steps}; at least 1 is needed")
    if math.isnan(error) or error < 0:
        raise _refused(path, f"line {line} has error={row['error']}; a number of at least 0 is needed (inf where training failed)")
    return (shape, steps), error
