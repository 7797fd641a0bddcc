"""Where a task's examples come from: files in the layout of their download, or the hub at a pinned revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bort.errors import BortError, ConfigurationError, first_line
from bort.files import digest, file_digest
from bort.quiet import quiet
from bort.tasks.config import HUB, TaskConfig
from bort.tasks.read import Row


class LayoutError(ConfigurationError):
    """A folder in which files of a task are missing; the message shows the ones that are expected.

    Args:
        folder: What ``task.path`` said.
        missing: The first file that is not there.
        tree: The expected layout, a line a file.
    """

    def __init__(self, folder: object, missing: str, tree: str) -> None:
        super().__init__("task.path", folder, f"a folder of this layout, and it has no {missing}")
        # The tree is the end of the message: a full stop after it would be read as part of a name.
        self.args = (f"{str(self).removesuffix('.')}:\n{tree}",)


#: Seconds that the hub has to answer in.
_PATIENCE = 10
#: The files that a task may have, each by the key that names it.
FILES = ("train", "steering_file", "test", "unlabelled")


def task_files(config: TaskConfig) -> dict[str, Path]:
    """Returns the file (for RACE: the folder) of each split that has one; empty for a task from the hub.

    Args:
        config: The task. Its ``path`` may be the task's own folder or that of the whole download.

    Raises:
        ConfigurationError: A file is missing; the message shows the layout that is expected.
    """
    if config.path == HUB:
        return {}
    named = {key: getattr(config, key) for key in FILES if getattr(config, key) is not None}
    root = Path(config.path).expanduser() if config.path is not None else None
    if root is not None and config.train is None and "test" not in named and "unlabelled" not in named:
        if root.is_dir():
            raise ConfigurationError("task.train", None, f"a file in task.path={root}, which is a directory")
        return {"train": root} | {key: root.parent / Path(name).expanduser() for key, name in named.items()}
    if root is not None and root.is_file():
        files = {key: root.parent / Path(name).expanduser() for key, name in named.items()}
        return files if config.train is not None else {"train": root} | files
    if root is None:
        return {key: Path(name).expanduser() for key, name in named.items()}
    home = _home(root, config, named)
    files = {key: home / Path(name).expanduser() for key, name in named.items()}
    # A test set without labels is needed for a submission alone, unless it is all there is.
    wanted = [key for key in files if key != "unlabelled"] or list(files)
    missing = [files[key] for key in wanted if not files[key].exists()]
    if missing:
        raise LayoutError(config.path, missing[0].name, _tree(home, files, wanted))
    return {key: path for key, path in files.items() if path.exists()}


def _home(root: Path, config: TaskConfig, named: Mapping[str, str]) -> Path:
    inside = root / config.folder if config.folder else root
    here = any((root / name).exists() for name in named.values())
    return inside if inside.is_dir() and not here else root


def _tree(home: Path, files: Mapping[str, Path], wanted: Sequence[str]) -> str:
    lines = [f"{home}/"]
    for key, path in files.items():
        if path.is_relative_to(home):
            optional = "" if key in wanted else "  (only for a submission)"
            lines.append(f"  {path.relative_to(home)}{'' if path.suffix else '/*.txt'}{optional}")
    return "\n".join(lines)


def source_digests(config: TaskConfig) -> dict[str, dict[str, str]]:
    """Returns name and SHA-256 of each file, or of the pinned hub data, by split.

    Raises:
        ConfigurationError: A file is missing.
    """
    if config.path == HUB:
        made_from = [config.hub.repository, config.hub.subset, config.hub.revision]
        return {key: {"name": config.hub.repository, "sha256": digest([*made_from, key])} for key in config.hub.splits}
    return {key: {"name": path.name, "sha256": _digest(path)} for key, path in task_files(config).items()}


def _digest(path: Path) -> str:
    if path.is_dir():
        return digest([[file.name, file_digest(file)] for file in sorted(path.rglob("*.txt"))])
    if not path.is_file():
        return ""
    return file_digest(path)


def hub_rows(config: TaskConfig, key: str, columns: Sequence[str] | None) -> list[Row]:
    """Reads one split of the hub's data.

    Args:
        config: The task; ``hub`` says where it lies.
        key: ``train``, ``steering_file``, ``test`` or ``unlabelled``.
        columns: Columns that are wanted, under our names; all, under the hub's names, where ``None``.

    Returns:
        One row an example. Class labels are given by their names; ones that are hidden (−1) as ``None``.

    Raises:
        BortError: The hub cannot be reached, or has no such data.
        ConfigurationError: The data lacks a column.
    """
    from datasets import ClassLabel, load_dataset
    from huggingface_hub import HfApi, constants

    hub = config.hub
    try:
        if not constants.HF_HUB_OFFLINE:
            # One attempt: where the hub is out of reach, reading would try again for half a minute.
            HfApi().dataset_info(hub.repository, revision=hub.revision, timeout=_PATIENCE)
        with quiet("datasets", "huggingface_hub"):
            data: Any = load_dataset(hub.repository, hub.subset, split=hub.splits[key], revision=hub.revision)
    except Exception as error:
        # The hub's client raises whatever its transport does; the user needs to know that this was the hub, and a way around it.
        reason = first_line(error).rstrip(".")
        raise BortError(
            f"{hub.repository} cannot be read from the hub ({reason}); go online, set HF_HUB_OFFLINE=1 to read what was downloaded "
            "before, or download the data and name its directory with task.path=DIRECTORY."
        ) from error
    theirs = {name: hub.columns.get(name, name) for name in (columns if columns is not None else data.column_names)}
    for name, column in theirs.items():
        if column not in data.column_names:
            raise ConfigurationError(
                "task.hub.columns", name, f"a column of {hub.repository}, which has {', '.join(data.column_names)}"
            )
    named = {column: feature for column, feature in data.features.items() if isinstance(feature, ClassLabel)}
    rows = []
    for number, record in enumerate(data):
        values = {name: _value(record[column], named.get(column), config.kind) for name, column in theirs.items()}
        rows.append(Row(number, values))
    return rows


def _value(value: Any, feature: Any, kind: str) -> Any:
    if feature is not None:
        if value is None or value < 0:
            return None
        # The names of a choice's options mean nothing; their order does.
        return str(value) if kind == "choice" else feature.names[value]
    return value
