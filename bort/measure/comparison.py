"""How many times faster one series is than another, whether they were called in the same rounds or only beside the same third."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bort.architecture import BORT, BORT_PUBLISHED
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


#: Where the targets apply: one sequence of 128 tokens.
CELL = (1, 128)

#: Words, backend of Bort, baseline (None: Bort itself), its backend, and the least ratio.
_TARGETS = (
    ("exported to ONNX at least as fast as eager", "onnx", None, "eager", 1.0),
    ("compiled at least as fast as eager", "compile", None, "eager", 1.0),
    ("int8 at least twice as fast as eager", "int8", None, "eager", 2.0),
    ("int8 at least 20 times as fast as eager BERT-large", "int8", "bert-large", "eager", 20.0),
    ("the paper: 7.9 times as fast as BERT-large", "eager", "bert-large", "eager", 7.9),
    ("the paper: 7.9 times as fast as BERT-base", "eager", "bert-base", "eager", 7.9),
    ("the paper: 20 times as fast as BERT-large", "eager", "bert-large", "eager", 20.0),
)


def targets(facts: Mapping[str, Mapping[str, Any]], comparison: Comparison) -> list[dict[str, Any]]:
    """Returns a row for each target that was measured, at batch 1 and 128 tokens.

    Args:
        facts: What is known of each model; its ``architecture`` tells Bort's shapes.
        comparison: The times.

    Returns:
        ``model``, ``target`` (words), ``backend``, ``over_model``, ``over_backend``, ``least``, ``ratio``, ``low``, ``high`` and
        ``met``: True where the whole interval is at or above the least, False where it is below, None where it straddles it.
    """
    found = []
    for model, fact in facts.items():
        if fact.get("architecture") not in (str(BORT), str(BORT_PUBLISHED)):
            continue
        for words, backend, baseline, over, least in _TARGETS:
            figures = comparison.ratio((baseline or model, over), (model, backend), CELL)
            if figures is not None:
                met = True if figures["low"] >= least else False if figures["high"] < least else None
                row = {"model": model, "target": words, "backend": backend, "over_model": baseline or model, "over_backend": over}
                found.append({**row, "least": least, **figures, "met": met})
    return found
