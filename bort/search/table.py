"""A table of measured errors as a CSV file: read with its seeds and measures, and written by every search that trains."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.files import write_text
from bort.search.study import FAILED
from bort.search.w import usable

if TYPE_CHECKING:
    from bort.search.problem import Problem
    from bort.search.study import Entry

SHAPE = ("depth", "heads", "hidden", "intermediate")
COLUMNS = (*SHAPE, "steps", "error")
SEED = "seed"
#: The name of the table that a search leaves beside its result.
TABLE = "table.csv"
#: The name that ``error.path`` has for the table that comes with Bort.
BORTBENCH = "bortbench"


def table_path(name: str) -> Path:
    """Returns the file that ``error.path`` names: a path, or BortBench's own table."""
    return Path(__file__).with_name(BORTBENCH) / f"{BORTBENCH}.csv" if name == BORTBENCH else Path(name)


@dataclass(frozen=True)
class ErrorTable:
    """What a table holds.

    Args:
        path: The file.
        curves: The errors by step, for each architecture and seed; the seed is ``None`` where the table has no such column.
        digest: SHA-256 of the file, and of the column that was read where that is not ``error``.
    """

    path: Path
    curves: dict[tuple[Architecture, int | None], dict[int, float]]
    digest: str

    @property
    def seeds(self) -> list[int]:
        """The seeds that the table holds, ascending; empty where it has no such column."""
        return sorted({seed for _, seed in self.curves if seed is not None})

    def of_seed(self, seed: int | None) -> dict[tuple[Architecture, int], float]:
        """Returns the errors of one seed.

        Args:
            seed: The seed; ``None`` for the lowest one that the table holds, so that all errors are of the same seed.

        Raises:
            ConfigurationError: The table holds no such seed.
        """
        if seed is not None and seed not in self.seeds:
            held = f"its seeds are {', '.join(map(str, self.seeds))}" if self.seeds else f"it has no column {SEED}"
            raise ConfigurationError("error.seed", seed, f"null or a seed of {self.path}: {held}")
        wanted = self.seeds[0] if seed is None and self.seeds else seed
        return {
            (shape, steps): error for (shape, own), curve in self.curves.items() if own == wanted for steps, error in curve.items()
        }

    def last_of_seed(self, seed: int | None) -> dict[Architecture, float]:
        """Returns the error of each architecture at the last of its steps, of one seed as in :meth:`of_seed`."""
        last: dict[Architecture, tuple[int, float]] = {}
        for (shape, steps), error in self.of_seed(seed).items():
            last[shape] = max(last.get(shape, (0, 0.0)), (steps, error))
        return {shape: error for shape, (_, error) in last.items()}


def read_table(name: str, column: str = "error") -> ErrorTable:
    """Read and check every row of a table.

    Args:
        name: The file, as ``error.path`` names it.
        column: The column that is e.

    Raises:
        ConfigurationError: The file cannot be read, lacks a column, or holds a repeated row, a negative error or one that is not a
            number.
    """
    path = table_path(name)
    curves: dict[tuple[Architecture, int | None], dict[int, float]] = {}
    needed = (*COLUMNS[:5], column)
    try:
        content = path.read_bytes()
        reader = csv.DictReader(content.decode("utf-8-sig").splitlines(), skipinitialspace=True)
        absent = [column for column in needed if column not in (reader.fieldnames or [])]
        if absent:
            raise refused(path, f"a CSV file with the columns {', '.join(needed)}, and it lacks {', '.join(absent)}")
        for row in reader:
            shape, steps, seed, error = _parse(path, reader.line_num, row, column)
            curve = curves.setdefault((shape, seed), {})
            if steps in curve:
                of_seed = "" if seed is None else f" with seed {seed}"
                raise refused(
                    path, f"a table without repeated rows: line {reader.line_num} repeats {shape} at {steps} steps{of_seed}"
                )
            curve[steps] = error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refused(path, f"a readable CSV file ({error})") from error
    if not curves:
        raise refused(path, "a table with rows")
    named = "" if column == "error" else f" {column}"
    return ErrorTable(path, curves, hashlib.sha256(content).hexdigest() + named)


def refused(path: Path, accepted: str) -> ConfigurationError:
    """Returns the refusal of a table."""
    return ConfigurationError("error.path", path, accepted)


def _parse(path: Path, line: int, row: Mapping[str, str], column: str) -> tuple[Architecture, int, int | None, float]:
    try:
        depth, heads, hidden, intermediate, steps = (int(row[name]) for name in COLUMNS[:5])
        seed = int(row[SEED]) if SEED in row else None
        error = float(row[column])
        shape = Architecture(depth, heads, hidden, intermediate)
    except (TypeError, ValueError) as problem:
        raise refused(path, f"a table of integers and an error in line {line} ({problem})") from problem
    except BortError as problem:
        raise refused(path, f"a table of architectures: line {line} has none ({problem})") from problem
    if steps < 1:
        raise refused(path, f"a table with steps >= 1: line {line} has steps={steps}")
    if math.isnan(error) or error < 0:
        raise refused(path, f"a table with {column} >= 0 (inf if training failed): line {line} has {column}={row[column]}")
    return shape, steps, seed, error


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a table that :func:`read_table` reads, as :func:`write_rows` does, with the columns that it needs first."""
    write_rows(path, rows, COLUMNS)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> None:
    """Writes a CSV file; columns that only some rows have are empty in the others.

    Args:
        path: The file.
        rows: A mapping from column to value for each row; numbers are written so that reading gives the same again.
        first: Columns to begin with; the others follow as the rows name them.
    """
    columns = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def search_rows(problem: Problem, entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Returns what a search has measured, a row for each candidate and rung, as :func:`write_table` takes it.

    Beside the columns that every table has: ``seed`` where the training has one, further held-out figures, ``parameters``,
    ``operations``, ``latency_ms`` where it was measured, and ``processor_seconds``, the processor time of the training up to
    there. A failed candidate has the error ``inf`` from the rung at which it failed. θ is not a column, so a candidate with a θ
    of its own has no rows.
    """
    rows: list[dict[str, Any]] = []
    seed = getattr(problem.estimator, "seed", None)
    for entry in entries:
        candidate = entry.candidate
        if candidate.theta:
            continue
        known: dict[str, float] = {"parameters": candidate.parameters, "operations": problem.operations(candidate.architecture)}
        if problem.measured:
            known["latency_ms"] = candidate.latency
        seconds = 0.0
        for evaluation in entry.curve:
            seconds += evaluation.processor_seconds
            row: dict[str, Any] = {**asdict(candidate.architecture), "steps": evaluation.steps}
            row["error"] = evaluation.error if usable(evaluation.error) else math.inf
            row |= {} if seed is None else {SEED: seed}
            rows.append({**row, **evaluation.metrics, **known, "processor_seconds": round(seconds, 3)})
        if entry.state == FAILED and entry.curve:
            last = rows[-1]
            rows += [{**last, "steps": steps} for steps in problem.estimator.rungs if steps > entry.steps]
    return rows
