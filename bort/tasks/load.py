"""From a task's configuration to its examples, in three splits that share no text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from bort.errors import BortError, ConfigurationError
from bort.events import Observer, Quiet
from bort.files import file_digest
from bort.tasks.config import METRICS, TaskConfig
from bort.tasks.read import Layout, Row, read_rows
from bort.tasks.split import share, spread, take, text_key
from bort.tasks.task import Example, Task


def load_task(config: TaskConfig, observer: Observer | None = None) -> Task:
    """Reads a task and splits it.

    Train never holds a text that steering or held-out hold, in whatever spelling; where files come apart already, such rows
    leave train (and steering) with a warning, because a score on texts trained on would mean nothing.

    Args:
        config: The task.
        observer: Told of rows that were dropped.

    Raises:
        ConfigurationError: A setting, a file or a column cannot be used.
        BortError: A row is malformed, a label unknown or a split empty.
    """
    config.check()
    observer = observer or Quiet()
    files = _files(config)
    known = config.label_names()
    parts: dict[str, list[tuple[Row, Path]]] = {}
    source: dict[str, object] = {"files": {}, "malformed": 0}
    for split, path in files.items():
        rows, skipped = _rows(config, split, path)
        if skipped:
            observer.warn(f"{path}: {skipped} malformed rows were skipped.")
        source["malformed"] = int(str(source["malformed"])) + skipped
        source["files"] |= {split: {"name": path.name, "sha256": file_digest(path)}}  # type: ignore[operator]
        parts[split] = [(row, path) for row in rows]
    if config.kind == "classification" and known is None:
        known = {value: value for value in _found(row.values[config.label].strip() for row, _ in parts["train"])}
    examples = {split: [_example(config, row, path, known, split) for row, path in rows] for split, rows in parts.items()}
    train, steering, heldout, dropped = _split(config, examples)
    if dropped:
        observer.warn(f"{config.name}: {dropped} examples whose text also stands in a split for judging were taken out of train.")
    task = Task(
        name=config.name,
        kind=config.kind,
        labels=list(known.values()) if known else [],
        metrics=list(config.metrics) or [METRICS[config.kind][0]],
        train=train,
        steering=steering,
        heldout=heldout,
        max_length=config.max_length,
        source={**source, "overlapping": dropped, "seed": config.seed},
    )
    _check(task, config)
    return task


def _files(config: TaskConfig) -> dict[str, Path]:
    """Returns the file of each split that has one."""
    folder = Path(config.path).expanduser() if config.path is not None else None
    if folder is not None and config.train is None:
        if folder.is_dir():
            raise ConfigurationError("task.train", None, f"{folder} is a directory, so task.train has to name a file in it")
        return {"train": folder} | _named(config, folder.parent, ("steering_file", "test"))
    files = _named(config, folder, ("train", "steering_file", "test"))
    missing = [path for path in files.values() if not path.is_file()]
    if missing and folder is not None:
        tree = "\n".join(
            [f"{folder}/", *(f"  {path.relative_to(folder)}" for path in files.values() if path.is_relative_to(folder))]
        )
        raise ConfigurationError("task.path", folder, f"there is no {missing[0].name}; this layout is expected:\n{tree}\n")
    return files


def _named(config: TaskConfig, folder: Path | None, keys: Sequence[str]) -> dict[str, Path]:
    named = {key: getattr(config, key) for key in keys if getattr(config, key) is not None}
    return {key: (folder or Path()) / Path(name).expanduser() for key, name in named.items()}


def _rows(config: TaskConfig, split: str, path: Path) -> tuple[list[Row], int]:
    columns = {"task.text": config.text_columns(), "task.label": [config.label], "task.filter": list(config.filter)}
    layout = Layout(config.header, config.delimiter, config.quoted, config.malformed)
    rows, skipped = read_rows(path, f"task.{split}", columns, layout)
    kept = [row for row in rows if all(row.values[name] == str(value) for name, value in config.filter.items())]
    if not kept:
        wanted = f" with {', '.join(f'{name}={value}' for name, value in config.filter.items())}" if config.filter else ""
        raise ConfigurationError(f"task.{split}", path, f"it has no rows{wanted}")
    return kept, skipped


def _found(values: object) -> list[str]:
    """Returns the different label values: as numbers where all of them are, else by letter."""
    unique = set(values)  # type: ignore[call-overload]
    try:
        return sorted(unique, key=float)
    except ValueError:
        return sorted(unique)


def _example(config: TaskConfig, row: Row, path: Path, known: dict[str, str] | None, split: str) -> Example:
    texts = tuple(row.values[name].strip() for name in config.text_columns())
    value = row.values[config.label].strip()
    identity = f"{path.name}:{row.line}"
    if known is None:
        try:
            target = float(value)
        except ValueError:
            target = math.nan
        if not math.isfinite(target):
            raise BortError(f"{path}, line {row.line}: the regression target '{value}' under '{config.label}' is not a number.")
        return Example(identity, texts, target)
    if value not in known:
        shown = ", ".join(list(known)[:20])
        where = "task.labels" if config.labels is not None else f"train, which has {shown}"
        expected = f"not in {where}" + (f" ({shown})" if config.labels is not None else "")
        raise BortError(f"{path}, line {row.line} (task.{split}): the label '{value}' under '{config.label}' is {expected}.")
    return Example(identity, texts, list(known).index(value))


def _split(config: TaskConfig, examples: dict[str, list[Example]]) -> tuple[list[Example], list[Example], list[Example], int]:
    """Returns train, steering, held-out, and how many examples were dropped because a judging split has their text."""

    def ordered(pool: Sequence[Example]) -> list[list[Example]]:
        strata = [example.label if config.kind == "classification" else 0 for example in pool]
        return spread(pool, strata, config.seed)

    dropped = 0
    train = examples["train"]
    steering = examples.get("steering_file", [])
    heldout = examples.get("test", [])
    judged = {text_key(example.texts) for example in heldout}
    if heldout and steering:
        kept = [example for example in steering if text_key(example.texts) not in judged]
        dropped += len(steering) - len(kept)
        steering = kept
    judged |= {text_key(example.texts) for example in steering}
    if judged:
        kept = [example for example in train if text_key(example.texts) not in judged]
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


def _check(task: Task, config: TaskConfig) -> None:
    sizes = {"train": task.train, "steering": task.steering, "held-out": task.heldout}
    for name, examples in sizes.items():
        if not examples:
            counts = ", ".join(f"{key} {len(value)}" for key, value in sizes.items())
            remedy = "give more rows or change task.steering or task.heldout"
            raise BortError(f"task {task.name}: the {name} split is empty ({counts}); {remedy}.")
    if task.kind == "regression":
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
    if "f1" in task.metrics and len(task.labels) != 2:
        raise ConfigurationError("task.metrics", "f1", f"it is for two labels and there are {len(task.labels)}; use macro_f1")
