"""From the labels that a file has to the numbers that training needs, with the names that travel with a model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bort.errors import BortError
from bort.tasks.config import TaskConfig
from bort.tasks.formats import Raw
from bort.tasks.task import Example, Task

#: How many labels a message lists.
_SHOWN = 20

#: Targets beyond are more than their standard deviation can be computed of.
_LARGEST = 1e30

#: No example has options by the billion; Python refuses to read numbers of thousands of digits.
_DIGITS = 10

_FRACTIONLESS = re.compile(r"-?[0-9]+\.0+")


def found_labels(values: Iterable[str]) -> dict[str, str]:
    """Returns the different label values in their order, each its own name: by number where all are numbers, else by letter.

    ``1.0`` is the label ``1``: tools that hold labels as floats write them so.
    """
    unique = {whole(value) for value in values}
    return {value: value for value in sorted(unique, key=_order(unique))}


def _order(values: Iterable[str]) -> Callable[[str], Any]:
    try:
        numbers = {value: float(value) for value in values}
    except ValueError:
        return str
    # A label that is no number, such as nan, has no place among numbers; two spellings of one need an order too.
    return (lambda value: (numbers[value], value)) if all(map(math.isfinite, numbers.values())) else str


def whole(value: str) -> str:
    """Returns the spelling of a whole number without a fraction, ``1`` for ``1.0``; any other label as it is."""
    return value.partition(".")[0] if _FRACTIONLESS.fullmatch(value) else value


class Numbering:
    """Numbers the labels of a task's examples.

    Args:
        config: The task.
        known: Name of each label value in the order of the classes; ``None`` for a regression.
    """

    def __init__(self, config: TaskConfig, known: Mapping[str, str] | None) -> None:
        self._config, self._known = config, dict(known or {})
        self._positions = {value: index for index, value in enumerate(self._known)}
        # Other sources of the same data call its labels by name, in one case or another.
        for index, (value, name) in enumerate(self._known.items()):
            for spelling in (name, value.casefold(), name.casefold()):
                self._positions.setdefault(spelling, index)
        self._columns = config.option_columns()

    def example(self, raw: Raw, place: str, key: str) -> Example:
        """Returns an example with its label as a number; NaN where the label is not told.

        Args:
            raw: The example as its source has it.
            place: Where it stands, for messages.
            key: The key that named the file.

        Raises:
            BortError: The label is not known, or there is none where one is needed.
        """
        label = math.nan
        if raw.label is not None:
            label = float(self._number(raw, raw.label.strip(), place, key))
        made = Example(raw.identity, raw.texts, label, raw.options, raw.answers, raw.group, raw.unit, raw.index)
        if made.answers and made.right:
            made = replace(made, label=float(min(made.right)))
        if key != "unlabelled" and not made.labelled:
            raise BortError(f"{place} (task.{key}): the label under '{self._config.label}' is missing.")
        return made

    def _number(self, raw: Raw, value: str, place: str, key: str) -> float:
        if self._config.kind == "regression":
            return self._target(value, place)
        return self._option(raw, value, place) if self._config.kind == "choice" else self._class(value, place, key)

    def _target(self, value: str, place: str) -> float:
        try:
            target = float(value)
        except ValueError:
            target = math.nan
        if not abs(target) <= _LARGEST:
            limits = f"not a number from {-_LARGEST:g} to {_LARGEST:g}" if math.isfinite(target) else "not a number"
            raise BortError(f"{place}: the regression target '{value}' under '{self._config.label}' is {limits}.")
        return target

    def _class(self, value: str, place: str, key: str) -> float:
        spellings = (value, value.casefold(), whole(value))
        position = next((self._positions[spelling] for spelling in spellings if spelling in self._positions), None)
        if position is not None:
            return position
        if key == "unlabelled":
            # Some test sets have a dummy where the label is hidden.
            return math.nan
        shown = ", ".join(list(self._known)[:_SHOWN])
        given = self._config.labels is not None
        expected = f"not in task.labels ({shown})" if given else f"not in train, which has {shown}"
        raise BortError(f"{place} (task.{key}): the label '{value}' under '{self._config.label}' is {expected}.")

    def _option(self, raw: Raw, value: str, place: str) -> int:
        position: int | None = None
        if self._known:
            position = self._positions.get(value)
        elif self._config.format != "table":
            position = _number(value, len(raw.options))
        elif value in self._columns:
            position = self._columns.index(value)
        else:
            readings = _readings(raw.options, value)
            if len(set(readings.values())) > 1:
                both = " and ".join(f"the {what} of option {number}" for what, number in readings.items())
                raise BortError(
                    f"{place}: '{value}' under '{self._config.label}' is {both} (from 0); tell the options' labels in "
                    "their order with task.labels=[…]."
                )
            position = next(iter(readings.values()), None)
        if len(raw.options) < 2 and self._config.format == "table":
            raise BortError(f"{place}: one option under '{', '.join(self._columns)}', where at least two are needed.")
        if position is None or position >= len(raw.options):
            accepted = "its column, its text, its letter from A or its number from 0"
            if self._known:
                accepted = f"one of {', '.join(self._known)}"
            raise BortError(
                f"{place}: '{value}' under '{self._config.label}' is none of the {len(raw.options)} options; {accepted} is needed, "
                "and task.labels=[…] tells another order."
            )
        return position


def _number(value: str, below: int) -> int | None:
    """Returns the whole number that a text is; ``None`` where it is none, or not ``below`` the limit."""
    fits = value.isascii() and value.isdecimal() and len(value) < _DIGITS
    return int(value) if fits and int(value) < below else None


def _readings(options: Sequence[str], value: str) -> dict[str, int]:
    """Returns the options that a label may mean, by what it is to them."""
    found: dict[str, int] = {}
    if value in options:
        found["text"] = list(options).index(value)
    number = _number(whole(value), len(options))
    if number is not None:
        found["number"] = number
    letter = ord(value.upper()) - ord("A") if len(value) == 1 and value.isascii() and value.isalpha() else len(options)
    if letter < len(options):
        found["letter"] = letter
    return found


def raw_of_row(config: TaskConfig, values: Mapping[str, object], identity: str, texts: Sequence[str], index: str) -> Raw:
    """Returns the example that a row of a table holds.

    Args:
        config: The task.
        values: The row's columns.
        identity: Where it stands.
        texts: Names of its text columns.
        index: Its name in a submission.
    """
    label = values.get(config.label)
    hidden = label is None or not str(label).strip()
    columns = config.option_columns()
    options: tuple[str, ...] = ()
    if columns:
        content = values[columns[0]]
        listed = content if len(columns) == 1 and isinstance(content, list) else [values[name] for name in columns]
        options = tuple(str(option).strip() for option in listed)
    group = str(values[config.group]) if config.group is not None and config.group in values else ""
    return Raw(
        identity,
        tuple(str(values[name]).strip() for name in texts),
        None if hidden else _text(label),
        options,
        group=group,
        unit=group,
        index=index,
    )


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def label_order(names: Mapping[int, str], task: Task, *, what: str = "The model") -> list[int]:
    """Returns the model's output for each class of the task; names are compared without regard to case.

    Args:
        names: The model's ``id2label``.
        task: The task.
        what: What the message calls the model.

    Raises:
        BortError: The model has other labels than the task, or another number of outputs.
    """
    if task.kind != "classification":
        if len(names) != 1:
            kind = "regression" if task.kind == "regression" else "choice"
            raise BortError(f"{what} has {len(names)} outputs and task {task.name} is a {kind}, which needs one.")
        return [0]
    positions = {str(name): int(index) for index, name in names.items()}
    wanted = [str(label) for label in task.labels]
    if set(positions) != set(wanted):
        positions = {name.casefold(): index for name, index in positions.items()}
        wanted = [label.casefold() for label in wanted]
    if set(positions) != set(wanted) or len(positions) != len(names) or len(set(wanted)) != len(wanted):
        theirs, ours = ", ".join(sorted(str(name) for name in names.values())), ", ".join(task.labels)
        raise BortError(f"{what}'s labels ({theirs}) are not those of task {task.name} ({ours}); name the latter with task.labels.")
    return [positions[name] for name in wanted]
