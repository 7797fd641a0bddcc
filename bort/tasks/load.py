"""From a task's configuration to its examples, in splits that share no text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bort.errors import BortError, ConfigurationError
from bort.observer import Observer, Quiet
from bort.settings import check_settings
from bort.tasks.config import HUB, METRICS, TaskConfig
from bort.tasks.formats import Raw, from_rows, read_format
from bort.tasks.label_encoding import Numbering, found_labels, raw_of_row
from bort.tasks.read import Layout, columns_of, read_rows
from bort.tasks.sources import FILES, hub_rows, source_digests, task_files
from bort.tasks.split import fewer_options, share, spread, take, text_key
from bort.tasks.task import Example, Task

#: An example as its source has it, and where it stands, for messages.
Placed = tuple[Raw, str]


def load_task(config: TaskConfig, observer: Observer | None = None, *, training: bool = True) -> Task:
    """Reads a task and splits it.

    Train never holds a text that steering or held-out hold, in whatever spelling; where files come apart already, such rows
    leave train (and steering) with a warning, because a score on texts trained on would mean nothing.

    Args:
        config: The task.
        observer: Told of rows that were dropped.
        training: Whether a model is to be trained, which needs all three splits. Without it, what there is of train, held-out and
            unlabelled examples is read, for scores and submissions.

    Raises:
        ConfigurationError: A setting, a file or a column cannot be used.
        BortError: A row is malformed, a label unknown or a split empty.
    """
    check_settings(config, "task")
    observer = observer or Quiet()
    there = [key for key in (config.hub.splits if config.path == HUB else task_files(config)) if key in FILES]
    if training and "train" not in there:
        raise ConfigurationError(
            "task.train",
            config.train,
            f"a file of labeled examples: {config.name} has nothing to train on and can only be evaluated",
        )
    parts: dict[str, list[Placed]] = {}
    malformed = 0
    for key in there:
        if key == "unlabelled" and training:
            continue
        parts[key], skipped = _read(config, key)
        if skipped:
            observer.warn(f"{config.name}, task.{key}: {skipped} malformed rows were skipped.")
        malformed += skipped
    known = config.label_names()
    if config.kind == "classification" and known is None:
        known = found_labels(raw.label.strip() for key in parts for raw, _ in parts[key] if raw.label and key == _labelling(parts))
    numbering = Numbering(config, known)
    examples = {key: [numbering.example(raw, place, key) for raw, place in rows] for key, rows in parts.items()}
    unlabelled = examples.pop("unlabelled", [])
    if unlabelled and "train" not in examples and "test" not in examples and all(example.labelled for example in unlabelled):
        # Diagnostic sets are published with their labels: they are for a score as well as for a submission.
        examples["test"] = unlabelled
    answerless = _drop_answerless(config, examples, observer)
    train, steering, heldout, dropped = _split(config, examples)
    if dropped:
        observer.warn(f"{config.name}: {dropped} examples whose text also stands in a split for judging were taken out of train.")
    source = {"files": source_digests(config), "malformed": malformed, "overlapping": dropped, "seed": config.seed}
    task = Task(
        name=config.name,
        kind=config.kind,
        labels=list(known.values()) if known and config.kind == "classification" else [],
        metrics=list(config.metrics) or [METRICS[config.kind][0]],
        train=[fewer_options(example, config.train_options, config.seed) for example in train],
        steering=steering,
        heldout=heldout,
        max_length=config.max_length,
        source=source | ({"answerless": answerless} if answerless else {}),
        unlabelled=unlabelled,
        placeholder=config.placeholder,
        truncate=config.truncate,
        keep=config.keep,
        windows=config.windows,
        overlap=config.overlap,
        window_pooling=config.window_pooling,
        margin=config.margin,
        submission=config.submission,
        submission_labels=dict(config.submission_labels),
    )
    _check(task, config, training)
    return task


def _labelling(parts: Mapping[str, object]) -> str:
    """Returns the split whose labels are the task's."""
    return "train" if "train" in parts else "test"


def _read(config: TaskConfig, key: str) -> tuple[list[Placed], int]:
    """Returns the examples of one file or split of the hub, and how many rows of it were malformed."""
    if config.path == HUB:
        rows = hub_rows(config, key, _hub_columns(config, key) if config.format == "table" else None)
        places = [(f"{config.hub.repository}:{config.hub.splits[key]}:{row.line}", row.values) for row in rows]
        if config.format != "table":
            raws = from_rows(config.format, places)
        else:
            texts = config.text_columns(key)
            raws = [
                raw_of_row(config, values, place, texts, str(values.get(config.id or "", number)))
                for number, (place, values) in enumerate(places)
            ]
            if "gender_parity" in config.metrics:
                # The hub leaves out the names of the pairs; the texts of a pair follow each other.
                raws = [replace(raw, group=f"{number // 2}", unit=f"{number // 2}") for number, raw in enumerate(raws)]
        return [(raw, raw.identity) for raw in raws], 0
    path = task_files(config)[key]
    if config.format != "table":
        return [(raw, raw.identity) for raw in read_format(config.format, path)], 0
    return _read_table(config, key, path)


def _hub_columns(config: TaskConfig, key: str) -> list[str]:
    return [*config.text_columns(key), config.label, *config.option_columns(), *([config.id] if config.id else [])]


def _read_table(config: TaskConfig, key: str, path: Path) -> tuple[list[Placed], int]:
    texts = config.text_columns(key)
    header = config.header or (key == "unlabelled" and config.unlabelled_text is not None)
    listed = tuple(config.option_columns()) if len(config.option_columns()) == 1 else ()
    layout = Layout(header, config.delimiter, config.quoted, config.malformed, listed)
    columns = {"task.text": texts, "task.options": config.option_columns(), "task.filter": list(config.filter)}
    if key == "unlabelled":
        # Nothing but the texts has to be there; a row's number is its name where it has no other.
        at_hand = columns_of(path, f"task.{key}", layout)
        optional = {"task.label": config.label, "task.group": config.group, "task.id": config.id}
        columns |= {name: [column] for name, column in optional.items() if column is not None and column in at_hand}
    else:
        columns["task.label"] = [config.label]
        columns["task.group"] = [config.group] if config.group else []
    rows, skipped = read_rows(path, f"task.{key}", columns, layout)
    kept = [row for row in rows if all(row.values[name] == str(value) for name, value in config.filter.items())]
    if not kept:
        wanted = f" with {', '.join(f'{name}={value}' for name, value in config.filter.items())}" if config.filter else ""
        raise ConfigurationError(f"task.{key}", path, f"a file with rows{wanted}")
    placed = []
    for number, row in enumerate(kept):
        index = str(row.values.get(config.id or "", number)).strip()
        raw = raw_of_row(config, row.values, f"{path.name}:{row.line}", texts, index)
        placed.append((raw, f"{path}, line {row.line}"))
    return placed, skipped


def _drop_answerless(config: TaskConfig, examples: dict[str, list[Example]], observer: Observer) -> int:
    """Takes out of train the questions none of whose options is right: there is nothing to learn from them."""
    whole = examples.get("train", [])
    kept = [example for example in whole if config.kind != "choice" or example.right]
    if len(kept) < len(whole):
        examples["train"] = kept
        observer.warn(f"{config.name}: {len(whole) - len(kept)} train examples have no right option and were left out.")
    return len(whole) - len(kept)


def _split(config: TaskConfig, examples: dict[str, list[Example]]) -> tuple[list[Example], list[Example], list[Example], int]:
    """Returns train, steering, held-out, and how many examples were dropped because a judging split has their text."""

    def ordered(pool: Sequence[Example]) -> list[list[Example]]:
        strata = [example.label if config.kind == "classification" else 0 for example in pool]
        return spread(pool, strata, config.seed)

    dropped = 0
    train = examples.get("train", [])
    steering = examples.get("steering_file", [])
    heldout = examples.get("test", [])
    judged = {text_key(example) for example in heldout}
    if heldout and steering:
        kept = [example for example in steering if text_key(example) not in judged]
        dropped += len(steering) - len(kept)
        steering = kept
    judged |= {text_key(example) for example in steering}
    if judged:
        kept = [example for example in train if text_key(example) not in judged]
        dropped += len(train) - len(kept)
        train = kept
    groups, total = ordered(train), len(train)
    if "test" not in examples:
        heldout, groups = take(groups, share(config.heldout, total))
    if "steering_file" not in examples:
        steering, groups = take(groups, share(config.steering, total))
    rest = [example for group in groups for example in group]
    if config.train_examples is not None and config.train_examples < len(rest):
        # Ordered anew, because what is left of the first order is not interleaved from its own start.
        rest = [example for group in ordered(rest) for example in group][: config.train_examples]
    return rest, steering, heldout, dropped


def _check(task: Task, config: TaskConfig, training: bool) -> None:
    sizes = {"train": task.train, "steering": task.steering, "held-out": task.heldout}
    for name, examples in sizes.items():
        if training and not examples:
            counts = ", ".join(f"{key} {len(value)}" for key, value in sizes.items())
            remedy = "give more rows, of other texts, or change task.steering or task.heldout"
            if task.source.get("overlapping"):
                remedy = f"{task.source['overlapping']} examples were taken out because a split for judging has their text, too"
            raise BortError(f"task {task.name}: the {name} split is empty ({counts}); {remedy}.")
    if task.kind != "classification":
        return
    if "f1" in task.metrics and len(task.labels) != 2:
        raise ConfigurationError("task.metrics", "f1", f"macro_f1 for more than two labels, and there are {len(task.labels)}")
    if not training:
        return
    trained = {int(example.label) for example in task.train}
    for name in ("steering", "held-out"):
        unseen = sorted({int(example.label) for example in sizes[name]} - trained)
        if unseen:
            raise BortError(
                f"task {task.name}: the label '{task.labels[unseen[0]]}' stands in {name} but not in train; "
                "give train examples of it"
                + (f" or raise task.train_examples={config.train_examples}." if config.train_examples else " or take it out.")
            )
    if len(trained) < 2:
        raise BortError(f"task {task.name}: train has only the label '{task.labels[trained.pop()]}'; at least two are needed.")
