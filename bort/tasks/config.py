"""What a task is: its files, its columns, its labels, its metrics and how it is split."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from bort.errors import ConfigurationError

KINDS = ("classification", "regression")
#: Metrics of each kind; the first is what choices are made by where a task names none.
METRICS = {
    "classification": ("accuracy", "f1", "macro_f1", "matthews_correlation"),
    "regression": ("pearson", "spearman"),
}
MALFORMED = ("refuse", "skip")


@dataclass
class TaskConfig:
    """A labelled data set and how it is read.

    One file (``path`` or ``train``) is split into train, steering and held-out; a ``test`` file takes the place of the held-out
    share, a ``steering_file`` that of the steering share. Choices are made on steering examples only, scores given on held-out
    ones only.

    Args:
        name: Name in records and reports.
        kind: ``classification`` or ``regression``.
        path: A directory that the other files are relative to, or the one file of the task.
        train: Training examples: CSV, TSV or JSONL by suffix, ``.gz`` allowed.
        steering_file: Steering examples, where they have a file of their own.
        test: Labelled held-out examples, where they have a file of their own.
        text: One column, or two for a pair: a list, or names with a comma between.
        label: Column of the label or of the regression target.
        labels: Label values in the order of their class index, or a mapping from value to name. Found in train where not given.
        filter: Only rows whose columns have these values are read.
        metrics: Metrics to report; the first decides on steering examples. By kind where empty.
        header: Whether the first row names the columns. Without one, columns are named by position from ``0``.
        delimiter: Separator of columns; by suffix where not given.
        quoted: Whether quotation marks enclose fields; true for CSV and false for TSV (as in GLUE's files) where not given.
        malformed: ``refuse`` rows with too few columns, or ``skip`` them and say how many.
        train_examples: Limit on the train split, for a low-data setting. A smaller limit takes a subset of a larger one.
        steering: Share of the file for steering (below 1) or number of examples (1 or more).
        heldout: Share of the file for the held-out split (below 1) or number of examples (1 or more).
        max_length: Tokens of an example, special ones included; longer ones are cut.
        seed: Decides the split and the subset, not the training.
    """

    name: str = "custom"
    kind: str = "classification"
    path: str | None = None
    train: str | None = None
    steering_file: str | None = None
    test: str | None = None
    text: Any = "text"
    label: str = "label"
    labels: Any = None
    filter: dict[str, str] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    header: bool = True
    delimiter: str | None = None
    quoted: bool | None = None
    malformed: str = "refuse"
    train_examples: int | None = None
    steering: float = 0.1
    heldout: float = 0.2
    max_length: int = 128
    seed: int = 0

    def check(self) -> None:
        """Checks every value that can be judged without reading a file.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if self.kind not in KINDS:
            raise ConfigurationError("task.kind", self.kind, f"use one of {', '.join(KINDS)}")
        if self.malformed not in MALFORMED:
            raise ConfigurationError("task.malformed", self.malformed, f"use one of {', '.join(MALFORMED)}")
        if self.path is None and self.train is None:
            raise ConfigurationError("task.train", None, "name a CSV, TSV or JSONL file of labelled examples: task.train=FILE")
        self.text_columns()
        self.label_names()
        for metric in self.metrics:
            if metric not in METRICS[self.kind]:
                raise ConfigurationError("task.metrics", metric, f"for {self.kind} use some of {', '.join(METRICS[self.kind])}")
        for key in ("steering", "heldout"):
            value = getattr(self, key)
            if not math.isfinite(value) or value <= 0 or (value > 1 and value != int(value)):
                raise ConfigurationError(f"task.{key}", value, "a share between 0 and 1, or a whole number of examples")
        if self.train_examples is not None and self.train_examples < 1:
            raise ConfigurationError("task.train_examples", self.train_examples, "at least 1 example, or null for all")
        if self.max_length < 4:
            raise ConfigurationError("task.max_length", self.max_length, "at least 4 tokens are needed for a pair")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigurationError("task.delimiter", self.delimiter, "one character")

    def text_columns(self) -> list[str]:
        """Returns the names of the one or two text columns.

        Raises:
            ConfigurationError: ``text`` is not one or two names.
        """
        if isinstance(self.text, str):
            columns = [name.strip() for name in self.text.split(",")]
        elif isinstance(self.text, (list, tuple)):
            columns = [str(name).strip() for name in self.text]
        else:
            columns = [str(self.text)] if isinstance(self.text, int) else []
        if len(columns) not in (1, 2) or not all(columns) or len(set(columns)) != len(columns):
            raise ConfigurationError("task.text", self.text, "one column, or two different ones for a pair: COLUMN,COLUMN2")
        return columns

    def label_names(self) -> dict[str, str] | None:
        """Returns the name of each label value in the order of the class indices, or ``None`` where train decides.

        Raises:
            ConfigurationError: ``labels`` has fewer than two values, repeats one, or belongs to a regression.
        """
        if self.labels is None:
            return None
        if self.kind == "regression":
            raise ConfigurationError(
                "task.labels", self.labels, "a regression has no labels; leave them out or ask for classification"
            )
        labels = self.labels
        if isinstance(labels, str):
            labels = [name.strip() for name in labels.split(",")]
        values = labels if isinstance(labels, dict) else {str(value): str(value) for value in labels}
        names = {str(value): str(name) for value, name in values.items()}
        if len(names) < 2 or len(names) != len(labels) or len(set(names.values())) != len(names):
            raise ConfigurationError("task.labels", self.labels, "at least two different labels, as a list or as value: name")
        return names
