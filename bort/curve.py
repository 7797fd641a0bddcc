"""A learning curve on disk: one JSON object a line, each step once, however often the run is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bort.files import finite, parse_json, without_links, write_text

Point = dict[str, Any]


class Curve:
    """The points of ``curve.jsonl``: training figures every so many steps, held-out figures under ``heldout_…``.

    Lines are appended as they come. A run that goes on from a checkpoint first cuts off what was logged after it, so that there are
    neither gaps nor doubles; :meth:`flush` before each checkpoint makes sure that nothing before it is missing.

    Args:
        path: The file.
        step: Points after this step are dropped; those of a run that goes on from the beginning all are.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.points = [point for point in read_curve(path) if point["step"] <= step]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(_line(point) for point in self.points))
        self._file = open(path, "a", encoding="utf-8", opener=without_links)  # noqa: SIM115

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point unless there is one with the same step and the same figures."""
        point: Point = {"step": step, **values}
        if any(known["step"] == step and known.keys() == point.keys() for known in reversed(self.points[-4:])):
            return
        self.points.append(point)
        self._file.write(_line(point))
        self._file.flush()

    def flush(self) -> None:
        """Makes sure that all points are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_curve(path: Path) -> list[Point]:
    """Returns the points of a curve; a last line that was cut short is left out."""
    if not path.exists():
        return []
    points: list[Point] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            point = parse_json(line)
        except ValueError:
            break
        if not isinstance(point, dict) or "step" not in point:
            break
        points.append(point)
    return points


def _line(point: Mapping[str, Any]) -> str:
    return json.dumps(finite(dict(point)), allow_nan=False) + "\n"
