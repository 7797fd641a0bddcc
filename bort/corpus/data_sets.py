"""Data sets of the datasets library: of the hub, a local copy of a repository, or what ``save_to_disk`` wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bort.corpus.config import SourceConfig
from bort.corpus.readers import Document, grouped, text_of
from bort.errors import BortError, ConfigurationError, first_line
from bort.quiet import quiet

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
#: Seconds that the hub has to answer.
_PATIENCE = 10.0


def is_hub(source: SourceConfig) -> bool:
    """Whether ``path`` names a hub data set rather than something on this machine."""
    path = Path(source.path).expanduser()
    return not path.exists() and not path.parent.is_dir() and _HUB_ID.fullmatch(source.path) is not None


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def is_repository(folder: Path) -> bool:
    """Whether a folder is a copy of a data set repository that says itself which of its files make up which split."""
    card = folder / "README.md"
    if not card.is_file():
        return False
    with card.open(encoding="utf-8", errors="replace") as stream:
        head = stream.read(1 << 16)
    front = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", head, re.DOTALL)
    return front is not None and re.search(r"^(configs|dataset_info):", front.group(1), re.MULTILINE) is not None


def resolve(source: SourceConfig, key: str) -> str | None:
    """Returns the commit that a hub data set's revision stands for now, after one attempt to reach the hub.

    Raises:
        BortError: The hub or the data set is out of reach; the message says what to download and where to put it.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and not source.streaming:
        # What was downloaded before can be read without the hub.
        return source.revision
    try:
        return _commit(source.path, source.revision)
    except Exception as error:  # The family of the client's network errors changes from version to version.
        raise _out_of_reach(source, key, error) from error


@cache
def _commit(path: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi

    return HfApi().dataset_info(path, revision=revision, timeout=_PATIENCE).sha


class DatasetRows:
    """The documents of one data set, from a place where an earlier reading stopped.

    Args:
        source: The data set.
        key: The dotted key of its settings.
        commit: For a hub data set, the commit that is read.
        state: What :meth:`state` returned after the last document that was used.
    """

    def __init__(self, source: SourceConfig, key: str, commit: str | None, state: dict[str, Any] | None) -> None:
        self._source, self._key, self._commit = source, key, commit
        self._started = state
        self._rows: Any = None
        self._read = int(state["rows"]) if state else 0

    def state(self) -> dict[str, Any]:
        """Returns the place after the last document that was yielded, as JSON-like values."""
        streamed = self._rows.state_dict() if hasattr(self._rows, "state_dict") else None
        return {"rows": self._read, "dataset": streamed}

    def __iter__(self) -> Iterator[Document]:
        source = self._source
        with quiet("datasets", "huggingface_hub"):
            try:
                self._rows = self._open()
                columns = self._rows.column_names
                if columns is not None and source.text_column not in columns:
                    text_of(dict.fromkeys(columns), source, self._key, source.path)
                if columns is not None:
                    self._rows = self._rows.select_columns([source.text_column])
                rows = self._rows
                if self._started and self._started.get("dataset"):
                    rows.load_state_dict(self._started["dataset"])
                elif self._read:
                    rows = rows.select(range(self._read, len(rows))) if self._read < len(rows) else []
                yield from grouped(self._texts(rows), source)
            except BortError:
                raise
            except Exception as error:  # The library hands on whatever its many readers and clients raise.
                if is_hub(source):
                    raise _out_of_reach(source, self._key, error) from error
                raise BortError(f"{source.path} cannot be read as a data set: {_named(error)}.") from error

    def _texts(self, rows: Any) -> Iterator[Document]:
        for row in rows:
            self._read += 1
            place = f"{self._source.path}:{self._read}"
            yield Document(text_of(row, self._source, self._key, place), place)

    def _open(self) -> Any:
        import datasets

        source = self._source
        folder = Path(source.path).expanduser()
        if is_saved(folder):
            saved = datasets.load_from_disk(str(folder))
            if isinstance(saved, datasets.DatasetDict):
                if source.split not in saved:
                    raise ConfigurationError(f"{self._key}.split", source.split, f"one of {', '.join(saved)} in {folder}")
                saved = saved[source.split]
            return saved
        return datasets.load_dataset(
            str(folder) if folder.is_dir() else source.path,
            name=source.subset,
            data_dir=source.folder,
            split=source.split,
            revision=self._commit,
            # A copy on this machine need not be copied once more.
            streaming=source.streaming or folder.is_dir(),
        )


def _out_of_reach(source: SourceConfig, key: str, error: Exception) -> BortError:
    part = "/".join(name for name in (source.folder, source.subset) if name)
    at = f" at revision {source.revision}" if source.revision else ""
    folder = "a folder" if key == "corpus" else f"FOLDER/{source.name}"
    return BortError(
        f"{key}.path={source.path} is not on this machine, and no data set of that name could be read from the hub: "
        f"download its parquet files{f' of {part}' if part else ''}{at} into {folder} and "
        f"set corpus.path=FOLDER ({_named(error)})."
    )


def _named(error: Exception) -> str:
    name, line = type(error).__name__, first_line(error).rstrip(".")
    return name if line == name else f"{name}: {line}"
