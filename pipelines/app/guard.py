"""Keeps what a user says, and what files from elsewhere say, from naming code: Hydra would import and call it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bort.errors import BortError, ConfigurationError

#: A class or function that Hydra (``_target_``) or Python's logging (``()``, ``class``) would make an object of.
_CALLABLE = re.compile(r"_target_|\(\)|\bclass\b")
_LOGGING = re.compile(r"\+*hydra[./](job|hydra)_logging\b")
_SEARCH_PATH = "hydra.searchpath"
_ACCEPTED = "no setting names a class or a function; choose among the files of conf/"


def refuse_code(arguments: Sequence[str]) -> None:
    """Refuses a command line that names code, or a folder of configurations that does.

    Args:
        arguments: The command line after the stage's name.

    Raises:
        ConfigurationError: An override names a class or a function, or a file in a folder that the command line names does.
        BortError: Such a file cannot be read.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if "_target_" in argument or (_LOGGING.match(key) and _CALLABLE.search(argument)):
            raise ConfigurationError(key, value, _ACCEPTED)
        if key.lstrip("+~") == _SEARCH_PATH:
            raise ConfigurationError(key, value, "a folder of your own configurations is named with --config-dir FOLDER")
    for folder in _folders(arguments):
        for file in sorted({*folder.rglob("*.yaml"), *folder.rglob("*.yml")}):
            _refuse_file(file)


def _folders(arguments: Sequence[str]) -> Iterator[Path]:
    """Yields the folders that Hydra's own options name."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for option in ("dir", "path", "name"):
        parser.add_argument(f"--config-{option}", f"-c{option[0]}")
    try:
        known, _ = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError:
        # Hydra refuses it, too.
        return
    for name in (known.config_dir, known.config_path):
        if name:
            yield Path(name)


def _refuse_file(file: Path) -> None:
    from yaml import YAMLError, safe_load

    try:
        content = safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError, RecursionError) as error:
        raise BortError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}.") from error
    for path in _keys(content, "", set()):
        name = path.rpartition(".")[2]
        if name in ("_target_", "()") or path.endswith(_SEARCH_PATH) or (_LOGGING.match(path) and name == "class"):
            raise ConfigurationError(path, f"in {file}", _ACCEPTED)


def _keys(content: Any, prefix: str, seen: set[int]) -> Iterator[str]:
    """Yields the dotted keys of a YAML document; what aliases repeat, or hold within itself, comes once."""
    if not isinstance(content, (dict, list)) or id(content) in seen:
        return
    seen.add(id(content))
    for key, value in content.items() if isinstance(content, dict) else (("", one) for one in content):
        path = f"{prefix}{key}" if key != "" else prefix.rstrip(".")
        if key != "":
            yield path
        yield from _keys(value, f"{path}." if path else "", seen)
