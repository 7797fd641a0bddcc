"""Turns what Hydra and OmegaConf raise into the one sentence a user needs."""

from __future__ import annotations

import difflib
import re

from bort.errors import BortError
from bort.files import disk_full, disk_full_message
from bort.redaction import redact

from .environment import CONF


def sentence(error: BaseException) -> str:
    """Returns one sentence that names the key, the value and what would be accepted, without any password.

    Args:
        error: What stopped the run; errors of our own already are such a sentence.
    """
    return redact(_sentence(error))


def _sentence(error: BaseException) -> str:
    for part in _chain(error):
        # OmegaConf wraps what a resolver raises.
        if isinstance(part, BortError):
            # A list of expected files keeps its lines.
            return str(part) if "\n  " in str(part) else _one_line(str(part))
    if disk_full(error):
        return _one_line(disk_full_message(getattr(error, "filename", None)))
    override = getattr(error, "override", None)
    if override is not None:
        return _unreadable(str(override))
    if isinstance(error, RecursionError):
        return "What was given is nested too deeply to be read."
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        problem = getattr(error, "problem", None)
        return _one_line(f"{mark.name}, line {mark.line + 1}, is not YAML: {problem or 'it cannot be read'}.")
    text = "\n".join(str(part) for part in _chain(error))
    for pattern, write in _PATTERNS:
        match = re.search(pattern, text)
        if match:
            return _one_line(write(match, text))
    # A wrapped error says what was being done; what lies beneath it says why that failed.
    told = list(dict.fromkeys(_one_line(str(part)) for part in _chain(error)))
    return ": ".join(part for part in told if part) or type(error).__name__


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and len(chain) < 5:
        chain.append(error)
        error = error.__cause__
    return chain


def _unreadable(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[\w.@:/+~-]+", key):
        return _one_line(f"{override} is no setting: write KEY=VALUE.")
    return _one_line(f"{override} cannot be read: put such a value in quotes of its own, as in {key}='\"{value}\"'.")


def _unknown_key(match: re.Match[str], text: str) -> str:
    key = re.search(r"full_key: ([\w.]+)", text)
    name = key.group(1) if key else match.group(1)
    return f"{name} is not a setting{_nearest(name, _known_keys())}; `bort <stage> --cfg job` prints all of them."


def _unknown_choice(match: re.Match[str], text: str) -> str:
    group, _, choice = match.group(1).rpartition("/")
    folder = CONF / group
    if group == "hydra/launcher":
        return f"hydra/launcher={choice} is not at hand; joblib, submitit_local and submitit_slurm need the extra bort[launchers]."
    if not folder.is_dir():
        return f"{group} is not a group of choices; the groups are {', '.join(_groups())}."
    choices = sorted({path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")} | _registered(group))
    return f"{group}={choice} is not a choice{_nearest(choice, choices)}; choose one of {', '.join(choices)}."


def _unknown_group(match: re.Match[str], text: str) -> str:
    name = match.group(1)
    return f"{name} is not a group of choices{_nearest(name, _groups())}; the groups are {', '.join(_groups())}."


def _wrong_type(match: re.Match[str], text: str) -> str:
    key = re.search(r"full_key: ([\w.\[\]]+)", text)
    wanted = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false"}.get(match.group(2), match.group(2))
    return f"{key.group(1) if key else 'a setting'}={match.group(1)} is invalid: must be {wanted}."


def _missing(match: re.Match[str], text: str) -> str:
    return f"{match.group(1)}= is invalid: must be set, as it has no default: {match.group(1)}=…."


_PATTERNS = (
    (r"Could not override '([^']+)'\.\s+No match in the defaults list", _unknown_group),
    (r"Could not (?:find|load) '([^']+)'", _unknown_choice),
    (r"Key '([^']+)' (?:is not in struct|not in '\w+')", _unknown_key),
    (r"Value '([^']*)'(?: of type '\w+')? (?:could not be converted to|is not a valid) (\w+)", _wrong_type),
    (r"Missing mandatory value: ([\w.]+)", _missing),
)


def _groups() -> list[str]:
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "__pycache__")


def _registered(group: str) -> set[str]:
    from ..engine.schema import REGISTRIES

    return {name for registry in REGISTRIES if registry.group == group for name in registry}


def _known_keys() -> list[str]:
    from dataclasses import fields, is_dataclass

    from ..engine.schema import Config

    keys: list[str] = []

    def walk(prefix: str, kind: object) -> None:
        if isinstance(kind, type) and is_dataclass(kind):
            import typing

            hints = typing.get_type_hints(kind)
            for entry in fields(kind):
                keys.append(prefix + entry.name)
                walk(f"{prefix}{entry.name}.", hints[entry.name])

    walk("", Config)
    return keys


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
