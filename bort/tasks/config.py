"""What a task is: its files, its columns, its labels, its metrics and how it is split."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from bort.errors import ConfigurationError

KINDS = ("classification", "regression", "choice")
#: Metrics of each kind; the first is what choices are made by where a task names none.
METRICS = {
    "classification": ("accuracy", "f1", "macro_f1", "matthews_correlation", "f1a", "question_exact_match", "gender_parity"),
    "regression": ("pearson", "spearman"),
    "choice": ("accuracy", "answer_f1", "answer_exact_match"),
}
#: Metrics over examples that are judged together, which therefore need ``group``.
GROUPED = ("question_exact_match", "gender_parity")
#: How files are laid out: as rows with named columns, or as SuperGLUE and RACE have them.
FORMATS = ("table", "copa", "multirc", "record", "wic", "wsc", "race")
MALFORMED = ("refuse", "skip")
TRUNCATE = ("longest", "first", "second")
KEEP = ("start", "end")
WINDOW_POOLINGS = ("mean", "max")
#: What may name a file: no separator of folders, nothing that begins with a dot, no control character.
_PLAIN = re.compile(r"(?![.\s])[^/\\:\x00-\x1f\x7f]{1,120}", re.ASCII)
#: What ``path`` says instead of a directory where the data is to come from the hub.
HUB = "hub"


@dataclass
class HubConfig:
    """Where a task lies on the Hugging Face hub; read with ``task.path=hub``.

    Args:
        repository: Of parquet files, as ``owner/name``.
        subset: Its configuration.
        revision: The commit that is read, so that the data never changes.
        splits: Names there of ``train``, ``steering_file``, ``test`` and ``unlabelled``.
        columns: Names there of columns that the task's own files call otherwise.
    """

    repository: str = ""
    subset: str | None = None
    revision: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)


@dataclass
class TaskConfig:
    """A labelled data set and how it is read.

    One file (``path`` or ``train``) is split into train, steering and held-out; a ``test`` file takes the place of the held-out
    share, a ``steering_file`` that of the steering share. Choices are made on steering examples only, scores given on held-out
    ones only.

    Args:
        name: Name in records and reports.
        kind: ``classification``, ``regression``, or ``choice`` between options.
        path: A directory that the other files are relative to, or the one file of the task, or ``hub``.
        folder: The task's own folder in the whole download, so that ``path`` may be either.
        format: ``table`` for CSV, TSV and JSONL with columns, or the layout of ``copa``, ``multirc``, ``record``, ``wic``, ``wsc``
            (SuperGLUE) or ``race``, which tell for themselves what text, label and options are.
        train: Training examples: CSV, TSV or JSONL by suffix, ``.gz`` allowed; a folder for RACE.
        steering_file: Steering examples, where they have a file of their own.
        test: Labelled held-out examples, where they have a file of their own.
        unlabelled: A site's test set without labels, for which predictions are written; may be absent.
        hub: Where the same data lies on the hub.
        text: One column, or two for a pair: a list, or names with a comma between.
        unlabelled_text: The same in the unlabelled file where it differs; that file then names its columns in its first row.
        label: Column of the label, of the regression target, or of the right option (number from 0, letter, column or text).
        labels: Label values in the order of their class index (of the options, for a choice), or a mapping from value to name.
            Found in train where not given.
        options: Columns of the options of a choice, or the one column of JSONL that holds a list of them.
        placeholder: What an option takes the place of in the last text, such as ``_``; it is appended where absent.
        id: Column that names an example in a submission; its number from 0 where not given.
        group: Column of what examples are judged and split together by, such as a question with several answers.
        filter: Only rows whose columns have these values are read.
        metrics: Metrics to report; the first decides on steering examples. By kind where empty.
        header: Whether the first row names the columns. Without one, columns are named by position from ``0``.
        delimiter: Separator of columns; by suffix where not given.
        quoted: Whether quotation marks enclose fields; true for CSV and false for TSV (as in GLUE's files) where not given.
        malformed: ``refuse`` rows with too few columns, or ``skip`` them and say how many.
        train_examples: Limit on the train split, for a low-data setting. A smaller limit takes a subset of a larger one.
        steering: Share of the file for steering (below 1) or number of examples (1 or more).
        heldout: Share of the file for the held-out split (below 1) or number of examples (1 or more).
        max_length: Tokens of a sequence, special ones included; in longer ones a text gives way.
        truncate: Which text gives way: ``longest``, or always the ``first`` or ``second`` (the passage, never the question).
        keep: Which end of that text is read where it is cut: its ``start``, or its ``end`` where what matters stands last.
        windows: Windows, at most, in which that text is read; with 1 it is cut.
        overlap: Tokens that neighbouring windows share.
        window_pooling: Whether an example's logits are the ``mean`` or the ``max`` of those of its windows.
        margin: For a choice: by how many logits training asks right options to be ahead of wrong ones.
        train_options: For a choice: options that training reads of an example, at most; the right ones are among them.
        submission: File name of a submission that a site accepts, such as ``CoLA.tsv``.
        submission_labels: Its words by label name, where they are not the names themselves.
        seed: Decides the split and the subset, not the training.
    """

    name: str = "custom"
    kind: str = "classification"
    path: str | None = None
    folder: str | None = None
    format: str = "table"
    train: str | None = None
    steering_file: str | None = None
    test: str | None = None
    unlabelled: str | None = None
    hub: HubConfig = field(default_factory=HubConfig)
    text: Any = "text"
    unlabelled_text: Any = None
    label: str = "label"
    labels: Any = None
    options: Any = None
    placeholder: str | None = None
    id: str | None = None
    group: str | None = None
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
    truncate: str = "longest"
    keep: str = "start"
    windows: int = 1
    overlap: int = 32
    window_pooling: str = "mean"
    margin: float = 0.0
    train_options: int | None = None
    submission: str = ""
    submission_labels: dict[str, str] = field(default_factory=dict)
    seed: int = 0

    def check(self) -> None:
        """Checks every value that can be judged without reading a file.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        for key, accepted in (
            ("kind", KINDS),
            ("format", FORMATS),
            ("malformed", MALFORMED),
            ("truncate", TRUNCATE),
            ("keep", KEEP),
            ("window_pooling", WINDOW_POOLINGS),
        ):
            if getattr(self, key) not in accepted:
                raise ConfigurationError(f"task.{key}", getattr(self, key), f"use one of {', '.join(accepted)}")
        for key in ("name", "submission"):
            value = getattr(self, key)
            if (value or key == "name") and not _PLAIN.fullmatch(value):
                raise ConfigurationError(f"task.{key}", value, "a plain name for files is needed, without / and no dot in front")
        if all(name is None for name in (self.path, self.train, self.test, self.unlabelled)):
            raise ConfigurationError("task.train", None, "name a CSV, TSV or JSONL file of labelled examples: task.train=FILE")
        if self.path == HUB and not self.hub.repository:
            raise ConfigurationError("task.path", HUB, "this task has no task.hub.repository, so name a directory")
        self.text_columns()
        self.text_columns("unlabelled")
        self.label_names()
        self._check_choice()
        self._check_metrics()
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
        if self.keep == "end" and (self.truncate == "longest" or self.windows > 1):
            raise ConfigurationError("task.keep", self.keep, "it needs task.truncate=first or second, and task.windows=1")
        if self.windows < 1:
            raise ConfigurationError("task.windows", self.windows, "at least 1 window is needed")
        if self.windows > 1 and not 0 <= self.overlap < self.max_length - 3:
            raise ConfigurationError("task.overlap", self.overlap, "fewer tokens than task.max_length leaves for a text")
        if self.windows > 1 and self.truncate == "longest" and self.format == "table" and len(self.text_columns()) == 2:
            raise ConfigurationError("task.truncate", self.truncate, "of a pair one text is read in windows: first or second")

    def _check_choice(self) -> None:
        tabular = self.format == "table"
        if self.kind == "choice" and tabular and not self.option_columns():
            raise ConfigurationError("task.options", self.options, "name the columns of the options: COLUMN,COLUMN2")
        if self.kind != "choice" and self.options is not None:
            raise ConfigurationError("task.options", self.options, "only task.kind=choice has options")
        if self.train_options is not None and self.train_options < 2:
            raise ConfigurationError("task.train_options", self.train_options, "at least 2 options, or null for all")
        if not math.isfinite(self.margin) or self.margin < 0:
            raise ConfigurationError("task.margin", self.margin, "a number of logits of at least 0")

    def _check_metrics(self) -> None:
        for metric in self.metrics:
            if metric not in METRICS[self.kind]:
                raise ConfigurationError("task.metrics", metric, f"for {self.kind} use some of {', '.join(METRICS[self.kind])}")
            if metric in GROUPED and self.format == "table" and self.group is None:
                raise ConfigurationError("task.metrics", metric, "it judges groups of examples, so task.group has to name a column")

    def text_columns(self, key: str = "train") -> list[str]:
        """Returns the names of the one or two text columns of a file.

        Args:
            key: The key that names the file.

        Raises:
            ConfigurationError: ``text`` is not one or two names.
        """
        apart = key == "unlabelled" and self.unlabelled_text is not None
        text = self.unlabelled_text if apart else self.text
        if isinstance(text, str):
            columns = [name.strip() for name in text.split(",")]
        elif isinstance(text, (list, tuple)):
            columns = [str(name).strip() for name in text]
        else:
            columns = [str(text)] if isinstance(text, int) else []
        if len(columns) not in (1, 2) or not all(columns) or len(set(columns)) != len(columns):
            name = "task.unlabelled_text" if apart else "task.text"
            raise ConfigurationError(name, text, "one column, or two different ones for a pair: COLUMN,COLUMN2")
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

    def option_columns(self) -> list[str]:
        """Returns the columns of the options: several, or the one that holds a list; none for another kind of task.

        Raises:
            ConfigurationError: A name is empty or repeated.
        """
        if self.options is None:
            return []
        given = self.options.split(",") if isinstance(self.options, str) else list(self.options)
        columns = [str(name).strip() for name in given]
        if not columns or not all(columns) or len(set(columns)) != len(columns):
            raise ConfigurationError("task.options", self.options, "different columns, with a comma between: COLUMN,COLUMN2")
        return columns
