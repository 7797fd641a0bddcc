"""The state of a run of Agora on disk, from which it resumes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bort.files import atomic_path, read_json, write_json
from bort.finetuning.agora.points import Point
from bort.finetuning.model import load_classifier, save_classifier


class Iteration:
    """The folder of one iteration: a record of each training, the best model, the points made, the ledger's row.

    Each is written atomically, in that order, and never repeated. The model is written before the record of its training:
    killed between the two, that training is repeated and writes the same model.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def model(self) -> Path:
        """The best model of the iteration."""
        return self.folder / "model"

    @property
    def row(self) -> dict[str, Any] | None:
        """The ledger's row, where the iteration is done."""
        return self._read("row.json")

    def training(self, number: int) -> dict[str, Any] | None:
        """Return the record of a training that is done."""
        return self._read(f"training-{number:03}.json")

    def keep_training(self, number: int, record: Mapping[str, Any], model: Any | None, tokenizer: Any) -> None:
        """Keep a training's record, and its model where that is the best so far."""
        if model is not None:
            save_classifier(model, tokenizer, self.model)
        write_json(self.folder / f"training-{number:03}.json", dict(record))

    def points(self) -> tuple[list[Point], dict[str, Any]] | None:
        """Return the points made in the iteration and the counts that go with them."""
        found = self._read("points.json")
        return None if found is None else ([Point.of(record) for record in found["points"]], found["counts"])

    def keep_points(self, points: list[Point], counts: Mapping[str, Any]) -> None:
        """Keep the points of the iteration."""
        write_json(self.folder / "points.json", {"points": [point.record() for point in points], "counts": dict(counts)})

    def keep_row(self, row: Mapping[str, Any]) -> None:
        """Keep the ledger's row, which marks the iteration as done."""
        write_json(self.folder / "row.json", dict(row))

    def load(self) -> Any:
        """Return the best model."""
        return load_classifier(self.model)[0]

    def weights(self) -> dict[str, Tensor]:
        """Return the best model's weights."""
        return {name: value.clone() for name, value in self.load().state_dict().items()}

    def forget_model(self) -> None:
        """Remove the model."""
        shutil.rmtree(self.model, ignore_errors=True)

    def copy_model(self, target: Path) -> None:
        """Copy the model to ``target`` atomically."""
        with atomic_path(target) as temporary:
            shutil.copytree(self.model, temporary)

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        found: dict[str, Any] | None = read_json(path) if path.exists() else None
        return found
