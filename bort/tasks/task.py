"""A task in memory: examples in three splits, labels, metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bort.files import digest

SPLITS = ("train", "steering", "heldout")


@dataclass(frozen=True)
class Example:
    """One labelled text or pair of texts.

    Args:
        identity: Where it comes from, as ``file:line``; unique in the task.
        texts: One text, or the two of a pair.
        label: The class index, or the target of a regression.
    """

    identity: str
    texts: tuple[str, ...]
    label: float


@dataclass(frozen=True)
class Task:
    """A labelled data set, split. Choices are made on ``steering``, scores given on ``heldout``.

    Args:
        name: Name in records.
        kind: ``classification`` or ``regression``.
        labels: Label names by class index; empty for a regression.
        metrics: Metrics to report; the first makes the choices.
        train: Examples to train on.
        steering: Examples for every choice: best epoch, θ, seed to ship.
        heldout: Examples for the score, never used for a choice.
        max_length: Tokens of an example, special ones included.
        source: What the examples were read from: files with digests, rows dropped and why.
    """

    name: str
    kind: str
    labels: Sequence[str]
    metrics: Sequence[str]
    train: Sequence[Example]
    steering: Sequence[Example]
    heldout: Sequence[Example]
    max_length: int = 128
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Numbers that a head for this task gives: one for each class, or the one of a regression."""
        return len(self.labels) if self.kind == "classification" else 1

    @property
    def primary(self) -> str:
        """The metric that choices are made by."""
        return self.metrics[0]

    @cached_property
    def digest(self) -> str:
        """Digest of everything that training and scoring see."""
        splits = {split: [[example.texts, example.label] for example in getattr(self, split)] for split in SPLITS}
        return digest([self.kind, list(self.labels), list(self.metrics), self.max_length, splits])

    def record(self) -> dict[str, Any]:
        """Returns what a result tells of its data: counts, labels, sources, digest."""
        counts = {split: len(getattr(self, split)) for split in SPLITS}
        balance = {}
        if self.kind == "classification":
            for split in SPLITS:
                found = Counter(int(example.label) for example in getattr(self, split))
                balance[split] = {name: found.get(index, 0) for index, name in enumerate(self.labels)}
        return {
            "name": self.name,
            "kind": self.kind,
            "labels": list(self.labels),
            "metrics": list(self.metrics),
            "examples": counts,
            "balance": balance,
            "digest": self.digest,
            "source": dict(self.source),
        }
