"""Reads a study's journal in one pass, for those who only want to know how far it is.

Optuna makes every trial of a journal anew, with all its distributions, which takes most of a second for ten thousand of them, and
importing it half a second more. What is read here is the same, as a test compares, and nothing is written.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bort.files import parse_json

#: Optuna's operations and states, by the numbers that a journal has for them.
_STUDY, _DELETED, _STUDY_ATTRIBUTE, _TRIAL, _PARAMETER, _STATE, _ATTRIBUTE = 0, 1, 2, 4, 5, 6, 8
_STATES = {0: "RUNNING", 1: "COMPLETE", 2: "PRUNED", 3: "FAIL", 4: "WAITING"}
_FINISHED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass
class TrialRecord:
    """A trial.

    Args:
        number: Its number in its study.
        state: Name of its state, as Optuna has it.
        attributes: Its user attributes.
        values: Its objectives' values; empty before it is complete.
        ended: When it ended, in local time; ``None`` before.
        parameters: What was chosen: values, or each value's place with the distribution that it is of, as Optuna writes them.
    """

    number: int
    state: str
    attributes: dict[str, Any]
    values: list[float] = field(default_factory=list)
    ended: datetime | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def chosen(self) -> dict[str, Any]:
        """Returns the values that were chosen; every choice of a search is one of a list."""
        return {
            name: json.loads(value[1])["attributes"]["choices"][int(value[0])] if isinstance(value, tuple) else value
            for name, value in self.parameters.items()
        }


@dataclass
class StudyRecord:
    """A study.

    Args:
        objectives: How many it has.
        attributes: Its user attributes.
        trials: Its trials, in their order.
    """

    objectives: int
    attributes: dict[str, Any] = field(default_factory=dict)
    trials: list[TrialRecord] = field(default_factory=list)


def read_journal(path: Path) -> dict[str, StudyRecord]:
    """Returns the studies of a journal by name. A last line without an end counts for nothing.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no journal, or a damaged one.
    """
    studies: list[StudyRecord | None] = []
    names: dict[str, int] = {}
    trials: list[TrialRecord] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                _apply(parse_json(line.decode()), studies, names, trials)
            except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
                raise ValueError(f"line {number}: {type(error).__name__}: {error}") from error
    return {name: study for name, index in names.items() if (study := studies[index]) is not None}


def _apply(line: dict[str, Any], studies: list[StudyRecord | None], names: dict[str, int], trials: list[TrialRecord]) -> None:
    code = line["op_code"]
    if code == _STUDY and line["study_name"] not in names:
        names[line["study_name"]] = len(studies)
        studies.append(StudyRecord(len(line["directions"])))
    elif code in (_DELETED, _STUDY_ATTRIBUTE, _TRIAL):
        study = studies[line["study_id"]] if 0 <= line["study_id"] < len(studies) else None
        if study is None:
            return
        if code == _STUDY_ATTRIBUTE:
            study.attributes.update(line["user_attr"])
        elif code == _TRIAL:
            study.trials.append(_trial(line, len(study.trials)))
            trials.append(study.trials[-1])
        else:
            studies[line["study_id"]] = None
            names.pop(next(name for name, index in names.items() if index == line["study_id"]))
    elif code in (_PARAMETER, _STATE, _ATTRIBUTE) and 0 <= line["trial_id"] < len(trials):
        trial = trials[line["trial_id"]]
        # As Optuna has it, nothing changes a trial that has ended.
        if trial.state in _FINISHED:
            return
        if code == _ATTRIBUTE:
            trial.attributes.update(line["user_attr"])
        elif code == _PARAMETER:
            trial.parameters[line["param_name"]] = line["param_value_internal"], line["distribution"]
        else:
            trial.state = _STATES[line["state"]]
            trial.values = [float(value) for value in line["values"] or trial.values]
            if trial.state in _FINISHED:
                trial.ended = _local(line["datetime_complete"])


def _trial(line: dict[str, Any], number: int) -> TrialRecord:
    distributions = line.get("distributions", {})
    # Kept once: the trials of a search all choose from the same lists, and theirs are most of a journal.
    chosen = {name: (place, sys.intern(distributions[name])) for name, place in line.get("params", {}).items()}
    ended = line.get("datetime_complete")
    # One that is made with its end has a single value under another name than several.
    values = [line["value"]] if line.get("value") is not None else line.get("values") or []
    return TrialRecord(
        number,
        _STATES[line.get("state", 0)],
        dict(line.get("user_attrs", {})),
        [float(value) for value in values],
        _local(ended) if ended else None,
        chosen,
    )


def _local(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None)
