"""How many times faster one series is than another, whether they were called in the same rounds or only beside the same third."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bort.measure.config import BenchmarkConfig
from bort.measure.statistics import Samples, ratio_by_way_of, ratio_of_medians

#: A model and a backend.
Key = tuple[str, str]
#: A batch size and a sequence length.
Cell = tuple[int, int]


class Comparison:
    """The times of all models, each measured in a block of rounds of its own with the same anchor beside it.

    Two series of one block are compared round by round. Two of different blocks are each compared with the anchor in their own
    block, and the ratios multiplied: what the machine did between the blocks fell on the anchor, too, and cancels out.

    Args:
        blocks: By model, its ``cells``: each with ``batch``, ``sequence_length``, ``series`` {backend: call times in milliseconds},
            and ``anchor`` (the anchor's call times in the same rounds).
        anchor: Model and backend of the anchor.
        config: Confidence, resamples and seed.
    """

    def __init__(self, blocks: Mapping[str, Mapping[str, Any]], anchor: Key, config: BenchmarkConfig) -> None:
        self.anchor, self.config = anchor, config
        self._times: dict[tuple[Key, Cell], Samples] = {}
        self._anchors: dict[tuple[str, Cell], Samples] = {}
        for model, block in blocks.items():
            for found in block["cells"]:
                cell = (int(found["batch"]), int(found["sequence_length"]))
                for backend, times in found["series"].items():
                    self._times[(model, backend), cell] = np.asarray(times["samples_ms"], dtype=np.float64)
                own = found["series"].get(anchor[1]) if model == anchor[0] else None
                self._anchors[model, cell] = np.asarray((own or found["anchor"])["samples_ms"], dtype=np.float64)

    def cells(self) -> list[Cell]:
        """Returns every batch size and sequence length, in the order measured."""
        return list(dict.fromkeys(cell for _, cell in self._times))

    def ratio(self, slow: Key, fast: Key, cell: Cell) -> dict[str, float] | None:
        """Returns ``ratio``, ``low`` and ``high``, above 1 where ``fast`` is faster; None where either was not measured."""
        if (slow, cell) not in self._times or (fast, cell) not in self._times:
            return None
        first, second = self._times[slow, cell], self._times[fast, cell]
        if slow[0] == fast[0]:
            return self._paired(first, second)
        if slow == self.anchor:
            return self._paired(self._anchors[fast[0], cell], second)
        if fast == self.anchor:
            return self._paired(first, self._anchors[slow[0], cell])
        return ratio_by_way_of(
            first,
            self._anchors[slow[0], cell],
            self._anchors[fast[0], cell],
            second,
            confidence=self.config.confidence,
            resamples=self.config.resamples,
            seed=self.config.seed,
        )

    def _paired(self, slow: Samples, fast: Samples) -> dict[str, float]:
        return ratio_of_medians(
            slow, fast, confidence=self.config.confidence, resamples=self.config.resamples, seed=self.config.seed
        )

    def ratios(self, over: Sequence[str]) -> list[dict[str, Any]]:
        """Compares each series with the models of ``over`` on the same and on the plain backend, and with its own plain form."""
        return [
            {
                "model": model,
                "backend": backend,
                "over_model": other[0],
                "over_backend": other[1],
                "batch": cell[0],
                "sequence_length": cell[1],
                **figures,
            }
            for cell in self.cells()
            for (model, backend), other in self._pairs(over, cell)
            if (figures := self.ratio(other, (model, backend), cell)) is not None
        ]

    def _pairs(self, over: Sequence[str], cell: Cell) -> Iterator[tuple[Key, Key]]:
        plain = "eager" if "eager" in self.config.backends else self.config.backends[0]
        for key in [known for known, where in self._times if where == cell]:
            others = [(name, backend) for name in over for backend in (key[1], plain)]
            for other in dict.fromkeys([*others, (key[0], plain)]):
                if other != key:
                    yield key, other
