"""Puts the tables of finished searches together into one for replays, and says what each of them was made from."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.errors import ConfigurationError, RecordError
from bort.files import file_digest, read_json
from bort.record import MANIFEST, RESULT
from bort.search.table import COLUMNS, SEED, SHAPE, TABLE

#: Settings in which the searches of one table may differ: which candidates were trained, in which order, with which seed.
FREE = ("seed", "search_space.depth", "search_space.heads", "search_space.hidden", "search_space.intermediate", "strategy")
_KEPT = ("digest", "settings", "inputs", "bort", "python", "platform", "started", "finished", "seconds")


@dataclass(frozen=True)
class Collection:
    """Errors of several searches that were made alike.

    Args:
        rows: The rows of the table, by architecture, seed and steps.
        searches: For each search, what its manifest says, the digest of its table and what it cost.
        maximum_point: T.
        embedding_rows: Rows of all embeddings of the students together: what ``error.embedding_rows`` has to be.
    """

    rows: list[dict[str, str]]
    searches: list[dict[str, Any]]
    maximum_point: Architecture
    embedding_rows: int

    @property
    def shapes(self) -> list[Architecture]:
        """The architectures, ascending."""
        return sorted({_shape(row) for row in self.rows})

    @property
    def seeds(self) -> dict[Architecture, list[int]]:
        """The seeds of each architecture, ascending."""
        found: dict[Architecture, set[int]] = {}
        for row in self.rows:
            found.setdefault(_shape(row), set()).add(int(row[SEED]))
        return {shape: sorted(seeds) for shape, seeds in found.items()}

    def with_latency(self, milliseconds: Mapping[Architecture, float]) -> list[dict[str, str]]:
        """Returns the rows with a column ``latency_ms``, which each architecture has the same in all its rows."""
        return [{**row, "latency_ms": f"{milliseconds[_shape(row)]:.4f}"} for row in self.rows]


def collect(folders: Sequence[Path]) -> Collection:
    """Reads the tables of finished searches.

    Raises:
        ConfigurationError: A folder holds no finished search that trained, two searches were made with different settings or
            inputs, or they hold the same architecture twice with the same seed.
    """
    rows: dict[tuple[Architecture, int, int], dict[str, str]] = {}
    searches: list[dict[str, Any]] = []
    points: set[tuple[Architecture, int]] = set()
    for folder in folders:
        manifest, result = _finished(folder)
        if searches:
            _check_alike(folder, searches[0], manifest)
        points.add(_maximum_point(result))
        added = _read(folder, rows)
        searches.append(
            {
                "folder": folder.name if folder.name != "search" else folder.parent.name,
                **{key: manifest[key] for key in _KEPT if key in manifest},
                "table": file_digest(folder / TABLE),
                "rows": added,
                **{key: result[key] for key in ("trained_steps", "tokens", "processor_seconds")},
            }
        )
    if len(points) > 1:
        raise _refused(folders, "searches with one maximum point and one vocabulary")
    point, embedding_rows = points.pop()
    ordered = [rows[key] for key in sorted(rows)]
    return Collection(ordered, searches, point, embedding_rows)


def _refused(folder: Path | Sequence[Path], accepted: str) -> ConfigurationError:
    return ConfigurationError("collect.searches", folder if isinstance(folder, Path) else [str(one) for one in folder], accepted)


def _finished(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        manifest, result = read_json(folder / MANIFEST), read_json(folder / RESULT)
    except RecordError as error:
        raise _refused(folder, f"the folder of a finished search ({str(error).rstrip('.')})") from error
    if manifest.get("stage") != "search" or manifest.get("state") != "done" or not (folder / TABLE).is_file():
        raise _refused(folder, f"the folder of a finished search that trained, with its {TABLE}")
    return manifest, result


def _check_alike(folder: Path, first: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    there, here = _flat(first), _flat(manifest)
    different = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if different:
        named = "; ".join(f"{key}: {there.get(key, 'unset')} before, {here.get(key, 'unset')} here" for key in different[:3])
        raise _refused(folder, f"searches that are equal but for seed, strategy and space ({named})")


def _flat(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings and inputs by dotted name, without those in which searches may differ."""
    found: dict[str, Any] = {f"input {name}": digest for name, digest in manifest["inputs"].items()}

    def walk(prefix: str, value: Any) -> None:
        if prefix in FREE:
            return
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else key, item)
        else:
            found[prefix] = value

    walk("", manifest["settings"])
    return found


def _maximum_point(result: Mapping[str, Any]) -> tuple[Architecture, int]:
    """Returns T and the rows of its embeddings, which p(T) fixes: p = rows · H + 2H + encoder."""
    point = result["maximum_point"]
    shape = Architecture(*(point[name] for name in SHAPE))
    return shape, (point["p"] - shape.encoder_parameters()) // shape.hidden - 2


def _read(folder: Path, rows: dict[tuple[Architecture, int, int], dict[str, str]]) -> int:
    """Adds the rows of a search, and returns how many they are."""
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        added = 0
        for row in csv.DictReader(file):
            if any(name not in row for name in (*COLUMNS, SEED)):
                raise _refused(folder, f"the folder of a search whose {TABLE} has the columns {', '.join((*COLUMNS, SEED))}")
            key = (_shape(row), int(row[SEED]), int(row["steps"]))
            if key in rows:
                raise _refused(
                    folder, f"searches without repeated candidates: {key[0]} with seed {key[1]} is in another of them already"
                )
            rows[key] = row
            added += 1
    return added


def _shape(row: Mapping[str, str]) -> Architecture:
    return Architecture(*(int(row[name]) for name in SHAPE))
