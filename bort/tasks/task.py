"""A task in memory: examples in three splits, labels, metrics, and what its texts are to a model."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bort.files import digest

SPLITS = ("train", "steering", "heldout")


@dataclass(frozen=True)
class Example:
    """One text or pair of texts with its label, or a question with options to choose from.

    Args:
        identity: Where it comes from, as ``file:line``; unique in the task.
        texts: One text, or the two of a pair; of a question with options the passage, and the question where there is one.
        label: The class index, the target of a regression, or the index of the right option; NaN where it is not known.
        options: The options of a choice, of which there may be any number; empty for other tasks.
        answers: Texts of the right options, where several may be right; ``label`` is then the first of them.
        group: What is judged together with it, such as the answers to one question; empty where it stands alone.
        unit: What must stay in one split with it, such as the questions on one passage; its text where empty.
        index: How a submission names it: the index column or ``idx``.
    """

    identity: str
    texts: tuple[str, ...]
    label: float
    options: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    group: str = ""
    unit: str = ""
    index: str = ""

    @property
    def labelled(self) -> bool:
        """Whether the truth is known."""
        return not math.isnan(self.label) or bool(self.answers)

    @cached_property
    def right(self) -> frozenset[int]:
        """Indices of the right options; for another kind of task, its class."""
        if self.answers:
            wanted = {normalise(answer) for answer in self.answers}
            return frozenset(index for index, option in enumerate(self.options) if normalise(option) in wanted)
        return frozenset() if math.isnan(self.label) else frozenset({int(self.label)})


@dataclass(frozen=True)
class Task:
    """A labelled data set, split. Choices are made on ``steering``, scores given on ``heldout``.

    Args:
        name: Name in records.
        kind: ``classification``, ``regression`` or ``choice``.
        labels: Label names by class index; empty for a regression or a choice.
        metrics: Metrics to report; the first makes the choices.
        train: Examples to train on.
        steering: Examples for every choice: best epoch, θ, seed to ship.
        heldout: Examples for the score, never used for a choice.
        max_length: Tokens of a sequence, special ones included.
        source: What the examples were read from: files with digests, rows dropped and why.
        unlabelled: Examples of a site's test set, whose labels nobody here knows.
        placeholder: What an option takes the place of in the last text; an option is appended where absent.
        truncate: Which text gives way where a sequence is too long: ``longest``, ``first`` or ``second``.
        keep: Which end of a text that is cut is read: ``start`` or ``end``.
        windows: Windows, at most, in which a text that gives way is read; with 1 it is cut.
        overlap: Tokens that neighbouring windows share.
        window_pooling: ``mean`` or ``max`` of the logits of an example's windows.
        margin: By how many logits training asks right options to be ahead of wrong ones.
        submission: File that a site accepts, such as ``CoLA.tsv``; empty for the plain form.
        submission_labels: Words of that file by label name, where they are not the names.
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
    unlabelled: Sequence[Example] = ()
    placeholder: str | None = None
    truncate: str = "longest"
    keep: str = "start"
    windows: int = 1
    overlap: int = 32
    window_pooling: str = "mean"
    margin: float = 0.0
    submission: str = ""
    submission_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Numbers that a head for this task gives for one sequence: one for each class, else one."""
        return len(self.labels) if self.kind == "classification" else 1

    @property
    def primary(self) -> str:
        """The metric that choices are made by."""
        return self.metrics[0]

    def sequences(self, example: Example) -> list[tuple[str, ...]]:
        """Returns what a model reads of an example: its texts, or for a choice one sequence an option.

        An option takes the place of the placeholder in the last text where that has it. Else it follows the question, or is the
        second text of a single one.
        """
        if not example.options:
            return [example.texts]
        return [self._with_option(example.texts, option) for option in example.options]

    def _with_option(self, texts: tuple[str, ...], option: str) -> tuple[str, ...]:
        last = texts[-1]
        if self.placeholder and self.placeholder in last:
            return (*texts[:-1], last.replace(self.placeholder, option))
        return (*texts, option) if len(texts) == 1 else (*texts[:-1], f"{last} {option}".strip())

    @cached_property
    def digest(self) -> str:
        """Digest of everything that training and scoring see."""
        splits = {split: [_content(example) for example in getattr(self, split)] for split in SPLITS}
        reading = [self.placeholder, self.truncate, self.windows, self.overlap, self.window_pooling, self.margin]
        if self.keep != "start":
            reading.append(self.keep)
        return digest([self.kind, list(self.labels), list(self.metrics), self.max_length, reading, splits])

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
            "examples": counts | ({"unlabelled": len(self.unlabelled)} if self.unlabelled else {}),
            "balance": balance,
            "digest": self.digest,
            "source": dict(self.source),
        }


def _content(example: Example) -> list[Any]:
    return [example.texts, example.label, example.options, example.answers, example.group]


_ARTICLES = re.compile(r"\b(a|an|the)\b")

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Returns an answer in lower case, without ASCII punctuation, English articles and superfluous spaces (Rajpurkar 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())
