"""What the command line may say in short, and how a run is named after what it was told."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from importlib.util import resolve_name
from pathlib import Path

from omegaconf import OmegaConf

from bort.errors import ConfigurationError
from bort.redaction import redact
from bort.settings import NAME

from .environment import CONF, from_environment

#: What Hydra reads as a number or a truth value where no quotes say otherwise.
_READ = re.compile(r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[+-]?\d+)?|[+-]?(inf|nan)|true|false", re.IGNORECASE)
_SHAPE = re.compile(r"D?\d+-A?\d+-H?\d+-I?\d+", re.IGNORECASE)
#: A value of these groups that is no file of theirs is an answer of its own: the file that takes it, and the key it goes to.
_OPEN_GROUPS = {"student": ("directory", "path"), "teacher": ("directory", "path"), "corpus": ("local", "path")}
#: Keys whose value is a name as it stands, whatever it is made of.
_NAMES = tuple(
    f"task.{key}"
    for key in ("path", "train", "steering_file", "test", "unlabelled", "label", "id", "group", "delimiter", "placeholder")
)
#: Keys that may name several columns.
_COLUMNS = ("task.text", "task.options", "task.unlabelled_text")
#: Overrides that change where or how fast a run goes, not what comes out, and so do not name it.
_UNNAMED = ("experiment=", "name=", "outputs=", "cache=", "root=", "record=", "impl", "storage", "tracking", "hydra")
_LONGEST = 96
#: Tells the processes of a sweep's jobs the keys that the sweep does not vary.
FIXED = "BORT_SWEEP_FIXED"


def expand(arguments: Sequence[str]) -> list[str]:
    """Writes out the short forms: ``student=4-8-1024-768`` and ``teacher=FOLDER`` as a choice and a key, columns as a list.

    Args:
        arguments: The command line after the stage's name.
    """
    expanded: list[str] = []
    # Hydra stumbles over overrides on both sides of a flag.
    for argument in sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun")):
        group, equals, value = argument.partition("=")
        if group in _COLUMNS and value and value[0] not in "[\"'":
            # Hydra would take two columns for the two runs of a sweep, and stumble over what is no plain word in a name.
            names = [quoted(name.strip()) for name in value.split(",")]
            expanded.append(f"{group}={names[0]}" if len(names) == 1 else f"{group}=[{','.join(names)}]")
            continue
        if group in _NAMES and value and value[0] not in "\"'" and (group == "task.delimiter" or "," not in value):
            expanded.append(f"{group}={quoted(value)}")
            continue
        if group == "model" and value:
            expanded.append(f"evaluate.model={quoted(value)}")
            continue
        known = _exists(CONF / group / f"{value}.yaml")
        sweep = "," in value and not _exists(Path(value))
        if not equals or group not in _OPEN_GROUPS or known or sweep or not value:
            expanded.append(argument)
        elif group == "student" and _SHAPE.fullmatch(value):
            expanded += ["student=shape", f"student.architecture={value}"]
        elif "/" in value or value.startswith((".", "~")):
            choice, key = _OPEN_GROUPS[group]
            expanded += [f"{group}={choice}", f"{group}.{key}={quoted(value)}"]
        else:
            expanded.append(argument)
    return expanded


def _exists(path: Path) -> bool:
    try:
        return path.expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        # No name that the system takes: too long, of an unknown user, with a zero in it.
        return False


def quoted(value: str) -> str:
    """Quotes what Hydra's grammar would stumble over, such as a folder with ``=`` in its name, or take for something else."""
    if re.fullmatch(r"[A-Za-z0-9_./~-]+", value) and (value.isdecimal() or not _READ.fullmatch(value)):
        return value
    # Backslashes mean themselves unless a quotation mark follows.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def slug(overrides: Iterable[str]) -> str:
    """Returns a folder name for a run's overrides; empty when nothing was overridden that changes the result.

    The same overrides give the same folder, in one run and in a sweep, so that a command given again finds its own work.
    """
    whole = ",".join(_named(overrides))
    # No = and no comma: such a folder could not be named in an override without quotes.
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", whole.replace(",", "_"))
    if re.search(r"[^A-Za-z0-9=,._-]", whole) or len(plain) > _LONGEST:
        mark = hashlib.sha256(whole.encode("utf-8", errors="surrogatepass")).hexdigest()
        plain = f"{plain[:_LONGEST].rstrip('-_.')}-{mark[:8]}"
    return plain


def command(stage: str) -> str:
    """Returns the command line that runs this stage as it is being run; empty outside a run."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return ""
    named = [item for item in HydraConfig.get().overrides.task if not item.lstrip("+~").startswith("record=")]
    return redact(shlex.join(["bort", *stage.split("_"), *named]))


def overridden() -> list[str]:
    """Returns the overrides that change what comes out of this run, sorted; none outside a run."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return []
    return _named(HydraConfig.get().overrides.task)


def swept() -> list[str]:
    """Returns those of the overrides that a sweep gave this run; none outside a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized():
        return []
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        keys = fixed()
    elif FIXED in os.environ:
        # A job that has a process of its own is no sweep to Hydra.
        keys = os.environ[FIXED].split()
    else:
        return []
    # Hydra may write a value in another way than it was given, and sweepers may have more to vary than the command line told.
    return [item for item in overridden() if item.partition("=")[0] not in keys]


def fixed() -> list[str]:
    """Returns the keys that this process's command line gives one value for, whatever it sweeps."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given = OverridesParser.create().parse_overrides([item for item in sys.argv[1:] if "=" in item and not item.startswith("-")])
    varied = {item.get_key_element() for item in given if item.is_sweep_override()}
    return sorted({item.get_key_element() for item in given} - varied)


def _named(overrides: Iterable[str]) -> list[str]:
    return sorted(redact(item) for item in overrides if not item.lstrip("+~").startswith(_UNNAMED))


def _branch() -> str:
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return ""
    name = slug(HydraConfig.get().overrides.task)
    return f"/{name}" if name else ""


def _name(name: object) -> str:
    if not NAME.holds(str(name)):
        raise ConfigurationError("name", name, NAME.condition)
    return str(name)


def register_resolvers() -> None:
    """Register the resolvers of ``conf/``.

    ``${bort.name:${name}}`` is the run's name, refused if it is a path, as folders are created before settings are checked;
    ``${bort.branch:}`` is the folder below it that its overrides give it, ``${bort.environment:NAME}`` an environment variable,
    and ``${bort.module:NAME}`` the full name of a module of this package, which an installation holds within ``bort``.
    """
    OmegaConf.register_new_resolver("bort.branch", _branch, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("bort.name", _name, replace=True)
    OmegaConf.register_new_resolver("bort.environment", from_environment, replace=True, use_cache=False)
    OmegaConf.register_new_resolver("bort.module", lambda name: resolve_name(f"..{name}", __package__), replace=True)
