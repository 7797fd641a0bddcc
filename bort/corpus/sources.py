"""The sources of a corpus: what they are made of, and all their documents in one deterministic order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bort.corpus.config import CorpusConfig, SourceConfig
from bort.corpus.data_sets import DatasetRows, is_hub, is_repository, is_saved, resolve
from bort.corpus.readers import Document, FileRows, files_of, visible_files
from bort.files import file_digest


def describe(config: CorpusConfig) -> list[dict[str, Any]]:
    """Returns what each source is made of: the digests of local files, or id and revision of a hub data set.

    Raises:
        ConfigurationError: A path is missing, or nothing in it can be read.
    """
    return [_describe(source, key) for key, source in config.all_sources()]


def bytes_of(sources: list[dict[str, Any]]) -> int:
    """Returns the bytes of all local files that :func:`describe` found."""
    return sum(int(file["bytes"]) for source in sources for file in source.get("files", []))


def commits_of(config: CorpusConfig) -> list[str | None]:
    """Returns, for each source, the commit that is read of a hub data set, and ``None`` for local text.

    Raises:
        BortError: A data set is out of reach.
    """
    return [resolve(source, key) if is_hub(source) else None for key, source in config.all_sources()]


class Reader:
    """All documents of a corpus, source after source, from a place where an earlier reading stopped.

    Args:
        config: The corpus.
        commits: What :func:`commits_of` returned.
        position: What :meth:`position` returned after the last document that was used.
    """

    def __init__(self, config: CorpusConfig, commits: list[str | None], position: dict[str, Any] | None = None) -> None:
        self._sources = config.all_sources()
        self._commits = commits
        self._source = int(position["source"]) if position else 0
        self._read = int(position["read"]) if position else 0
        self._state: dict[str, Any] | None = position["state"] if position else None
        self._rows: FileRows | DatasetRows | None = None

    def position(self) -> dict[str, Any]:
        """Returns the place after the last document that was yielded, as JSON-like values."""
        state = self._rows.state() if self._rows is not None else self._state
        return {"source": self._source, "read": self._read, "state": state}

    def __iter__(self) -> Iterator[Document]:
        for number in range(self._source, len(self._sources)):
            self._source = number
            key, source = self._sources[number]
            left = None if source.max_documents is None else source.max_documents - self._read
            if left is None or left > 0:
                self._rows = _rows(source, key, self._commits[number], self._state)
                for document in self._rows:
                    self._read += 1
                    yield replace(document, source=number) if number else document
                    if self._read == source.max_documents:
                        break
            self._rows, self._state, self._read = None, None, 0


def _rows(source: SourceConfig, key: str, commit: str | None, state: dict[str, Any] | None) -> FileRows | DatasetRows:
    if _is_dataset(source):
        return DatasetRows(source, key, commit, state)
    return FileRows(source, key, files_of(source, key), state)


def _is_dataset(source: SourceConfig) -> bool:
    folder = Path(source.path).expanduser()
    return is_hub(source) or (folder.is_dir() and not source.pattern and (is_saved(folder) or is_repository(folder)))


def _describe(source: SourceConfig, key: str) -> dict[str, Any]:
    name = {"name": source.name} if key != "corpus" else {}
    if is_hub(source):
        settings = {"revision": source.revision, "subset": source.subset, "folder": source.folder, "split": source.split}
        return {**name, "hub": source.path, **settings}
    files = visible_files(Path(source.path).expanduser()) if _is_dataset(source) else files_of(source, key)
    return {**name, "files": [{"name": file.name, **_identity(file, file.stat().st_mtime_ns)} for file in files]}


@cache
def _identity(file: Path, modified: int) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "digest": file_digest(file)}
