"""Settings of a task: its files, columns, labels, metrics and splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge

from bort.errors import ConfigurationError
from bort.settings import FILE_NAME, OneOf, Rule, or_empty

KINDS = ("classification", "regression", "choice")
#: Metrics of each kind; the first decides if a task names none.
METRICS = {
    "classification": ("accuracy", "f1", "macro_f1", "matthews_correlation", "f1a", "question_exact_match", "gender_parity"),
    "regression": ("pearson", "spearman"),
    "choice": ("accuracy", "answer_f1", "answer_exact_match"),
}
#: Metrics over groups of examples, which therefore need ``group``.
GROUPED = ("question_exact_match", "gender_parity")
#: Layouts of files: rows with named columns, or those of SuperGLUE and RACE.
FORMATS = ("table", "copa", "multirc", "record", "wic", "wsc", "race")
MALFORMED = ("refuse", "skip")
TRUNCATE = ("longest", "first", "second")
KEEP = ("start", "end")
WINDOW_POOLINGS = ("mean", "max")
#: The value of ``path`` for data from the hub.
HUB = "hub"
_CHARACTER = Rule("one character", lambda sign: len(sign) == 1)
_SIZE = Rule("in (0, 1), or a whole number >= 1", lambda size: 0 < size <= 1 or (size > 1 and size == int(size)))


@dataclass
class HubConfig:
    """Location of a task on the Hugging Face hub; read with ``task.path=hub``."""

    repository: str = ""
    """Repository of parquet files, as ``owner/name``."""

    subset: str | None = None
    """Configuration in the repository."""

    revision: str | None = None
    """The commit, so that the data never changes."""

    splits: dict[str, str] = field(default_factory=dict)
    """Names in the repository of ``train``, ``steering_file``, ``test`` and ``unlabelled``."""

    columns: dict[str, str] = field(default_factory=dict)
    """Names in the repository of columns with other names in the task's own files."""


@dataclass
class TaskConfig:
    """A labeled data set and the way to read it.

    One file (``path`` or ``train``) is split into train, steering and held-out; a ``test`` file replaces the held-out share, a
    ``steering_file`` the steering share. Choices are made on steering examples only, scores computed on held-out ones only.
    """

    name: Annotated[str, FILE_NAME] = "custom"
    """Name in records and reports."""

    kind: Annotated[str, OneOf(*KINDS)] = "classification"
    """``classification``, ``regression``, or ``choice`` among options."""

    path: str | None = None
    """A directory that the other files are relative to, or the task's only file, or ``hub``."""

    folder: str | None = None
    """The task's folder in the complete download, so that ``path`` may be either."""

    format: Annotated[str, OneOf(*FORMATS)] = "table"
    """``table`` for CSV, TSV and JSONL with columns, or the layout of ``copa``, ``multirc``, ``record``,
    ``wic``, ``wsc`` (SuperGLUE) or ``race``, which fix text, label and options.
    """

    train: str | None = None
    """Training examples: CSV, TSV or JSONL by suffix, ``.gz`` allowed; a folder for RACE."""

    steering_file: str | None = None
    """Steering examples, if they have a separate file."""

    test: str | None = None
    """Labeled held-out examples, if they have a separate file."""

    unlabelled: str | None = None
    """A site's unlabeled test set, for which predictions are written; optional."""

    hub: HubConfig = field(default_factory=HubConfig)
    """Location of the same data on the hub."""

    text: Any = "text"
    """One column, or two for a pair: a list, or names separated by a comma."""

    unlabelled_text: Any = None
    """The text columns of the unlabeled file if they differ; that file then names its columns in its first
    row.
    """

    label: str = "label"
    """Column of the label, of the regression target, or of the right option (number from 0, letter, column or
    text).
    """

    labels: Any = None
    """Label values in the order of their class index (of the options, for a choice), or a mapping from value
    to name. Taken from train if ``null``.
    """

    options: Any = None
    """Columns of the options of a choice, or the one column of JSONL that contains a list of them."""

    placeholder: str | None = None
    """String in the last text that an option replaces, such as ``_``; an option is appended if ``null``."""

    id: str | None = None
    """Column with the name of an example in a submission; its number from 0 if ``null``."""

    group: str | None = None
    """Column of the group, such as a question with several answers; examples of a group are judged and split
    together.
    """

    filter: dict[str, str] = field(default_factory=dict)
    """Only rows whose columns have these values are read."""

    metrics: list[str] = field(default_factory=list)
    """Metrics to report; the first decides on steering examples. Those of the kind if empty."""

    header: bool = True
    """Whether the first row names the columns. Without one, columns are named by position from ``0``."""

    delimiter: Annotated[str, _CHARACTER] | None = None
    """Separator of columns; by suffix if ``null``."""

    quoted: bool | None = None
    """Whether quotation marks enclose fields; if ``null``, true for CSV and false for TSV (as in GLUE's
    files).
    """

    malformed: Annotated[str, OneOf(*MALFORMED)] = "refuse"
    """``refuse`` rows with too few columns, or ``skip`` and count them."""

    train_examples: Annotated[int, Ge(1)] | None = None
    """Limit on the train split, for a low-data setting; ``null`` for none. A smaller limit takes a subset of
    a larger one.
    """

    steering: Annotated[float, _SIZE] = 0.1
    """Steering split: share of the file (below 1) or number of examples (1 or more)."""

    heldout: Annotated[float, _SIZE] = 0.2
    """Held-out split: share of the file (below 1) or number of examples (1 or more)."""

    max_length: Annotated[int, Ge(4)] = 128
    """Tokens of a sequence, special ones included; longer sequences are truncated."""

    truncate: Annotated[str, OneOf(*TRUNCATE)] = "longest"
    """Text to truncate: the ``longest``, or always the ``first`` or ``second`` (the passage, never the
    question).
    """

    keep: Annotated[str, OneOf(*KEEP)] = "start"
    """End of a truncated text to keep: its ``start``, or its ``end`` if the important part stands last."""

    windows: Annotated[int, Ge(1)] = 1
    """Largest number of windows in which that text is read; with 1 it is truncated."""

    overlap: int = 32
    """Tokens that neighboring windows share."""

    window_pooling: Annotated[str, OneOf(*WINDOW_POOLINGS)] = "mean"
    """Whether an example's logits are the ``mean`` or the ``max`` of those of its windows."""

    margin: Annotated[float, Ge(0)] = 0.0
    """For a choice: margin in logits between right and wrong options in training."""

    train_options: Annotated[int, Ge(2)] | None = None
    """For a choice: largest number of options of an example in training, the right ones among them; ``null``
    for all.
    """

    submission: Annotated[str, or_empty(FILE_NAME)] = ""
    """File name of a submission that a site accepts, such as ``CoLA.tsv``; empty for none."""

    submission_labels: dict[str, str] = field(default_factory=dict)
    """Words of the submission by label name, if they differ from the names."""

    seed: int = 0
    """Seed of the split and the subset, not of the training."""

    def check(self, key: str) -> None:
        """Refuse files, columns, labels and metrics that do not go together, without reading a file."""
        if all(name is None for name in (self.path, self.train, self.test, self.unlabelled)):
            accepted = f"a CSV, TSV or JSONL file of labelled examples: {key}.train=FILE"
            raise ConfigurationError(f"{key}.train", None, accepted)
        if self.path == HUB and not self.hub.repository:
            raise ConfigurationError(f"{key}.path", HUB, f"a directory, as there is no {key}.hub.repository")
        self.text_columns()
        self.text_columns("unlabelled")
        self.label_names()
        self._check_choice(key)
        self._check_metrics(key)
        self._check_windows(key)

    def _check_windows(self, key: str) -> None:
        if self.keep == "end" and (self.truncate == "longest" or self.windows > 1):
            accepted = f"start, unless {key}.truncate is first or second and {key}.windows=1"
            raise ConfigurationError(f"{key}.keep", self.keep, accepted)
        if self.windows == 1:
            return
        if not 0 <= self.overlap < self.max_length - 3:
            accepted = f"an integer in [0, {self.max_length - 3}), as {key}.max_length={self.max_length}"
            raise ConfigurationError(f"{key}.overlap", self.overlap, accepted)
        if self.truncate == "longest" and self.format == "table" and len(self.text_columns()) == 2:
            accepted = f"first or second, as {key}.windows={self.windows} reads one text of a pair in windows"
            raise ConfigurationError(f"{key}.truncate", self.truncate, accepted)

    def _check_choice(self, key: str) -> None:
        if self.kind == "choice" and self.format == "table" and not self.option_columns():
            accepted = "the columns of the options: COLUMN,COLUMN2"
            raise ConfigurationError(f"{key}.options", self.options, accepted)
        if self.kind != "choice" and self.options is not None:
            raise ConfigurationError(f"{key}.options", self.options, f"null unless {key}.kind=choice")

    def _check_metrics(self, key: str) -> None:
        for metric in self.metrics:
            if metric not in METRICS[self.kind]:
                accepted = f"one of {', '.join(METRICS[self.kind])} for {key}.kind={self.kind}"
                raise ConfigurationError(f"{key}.metrics", metric, accepted)
            if metric in GROUPED and self.format == "table" and self.group is None:
                accepted = f"a metric of single examples, unless {key}.group names a column"
                raise ConfigurationError(f"{key}.metrics", metric, accepted)

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
            raise ConfigurationError("task.labels", self.labels, "null with task.kind=regression")
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
            raise ConfigurationError("task.options", self.options, "different columns, separated by a comma: COLUMN,COLUMN2")
        return columns
