"""Refuse command lines and files that name code, before Hydra reads them.

A spelling that this overlooks is refused by `pipelines.app.composition`, which compares what was composed.
"""

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
#: Hydra's options that read a pickle or replace Bort's configuration, and what serves instead.
_REFUSED = {
    "experimental_rerun": "left out: re-run the same command to resume",
    "config_path": "left out: --config-dir FOLDER adds a folder of your own configurations",
    "config_name": "left out: experiment=NAME chooses a configuration of your own",
}
_ACCEPTED = "a setting that names no class and no function; choose among the files of conf/"


def refuse_code(arguments: Sequence[str]) -> None:
    """Refuse a command line that names code, or a folder of configurations that does.

    Args:
        arguments: The command line after the stage's name.

    Raises:
        ConfigurationError: An override or a file of ``--config-dir`` names a class or a function, or an option is not offered.
        BortError: Such a file cannot be read.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if "_target_" in argument or (_LOGGING.match(key) and _CALLABLE.search(argument)):
            raise ConfigurationError(key, value, _ACCEPTED)
        if key.lstrip("+~") == _SEARCH_PATH:
            raise ConfigurationError(key, value, "left out: --config-dir FOLDER adds a folder of your own configurations")
    folder = _folder(arguments)
    if folder is not None:
        for file in sorted({*folder.rglob("*.yaml"), *folder.rglob("*.yml")}):
            _refuse_file(file)


def _folder(arguments: Sequence[str]) -> Path | None:
    """Return the folder of ``--config-dir``, read by Hydra's own parser, which takes abbreviations.

    Raises:
        ConfigurationError: An option of Hydra's is named that Bort does not offer.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        options, _ = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError:
        # Hydra refuses it, too.
        return None
    for name, remedy in _REFUSED.items():
        if (value := getattr(options, name)) is not None:
            raise ConfigurationError(
                f"--{name.replace('_', '-')}", value, f"left out, as Bort does not offer this option of Hydra; {remedy}"
            )
    return Path(options.config_dir) if options.config_dir else None


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
