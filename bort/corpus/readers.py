"""Documents out of files and hub data sets, one at a time, with a place to name when one cannot be used."""

from __future__ import annotations

import csv
import fnmatch
import gzip
import json
import logging
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bort.corpus.config import CorpusConfig
from bort.errors import BortError, ConfigurationError

#: What can be read, by the end of the file's name; ``.gz`` may follow all but parquet.
FORMATS = (".txt", ".text", ".raw", ".md", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Document:
    """One document and where it was read, as ``file:line``."""

    text: str
    place: str


def is_hub(config: CorpusConfig) -> bool:
    """Whether ``corpus.path`` names a hub data set rather than something on this machine."""
    path = Path(config.path).expanduser()
    return not path.exists() and not path.parent.is_dir() and _HUB_ID.fullmatch(config.path) is not None


def files_of(config: CorpusConfig) -> list[Path]:
    """Returns the files that ``corpus.path`` and ``corpus.pattern`` name, sorted.

    Raises:
        ConfigurationError: The path is missing, or nothing in it can be read.
    """
    path = Path(config.path).expanduser()
    if path.is_file():
        if _format(path) not in FORMATS:
            raise ConfigurationError("corpus.path", config.path, f"files ending in {', '.join(FORMATS)} (also .gz) can be read")
        return [path]
    if not path.is_dir():
        raise ConfigurationError("corpus.path", config.path, "it does not exist; name a file or a folder of text")
    found = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    if config.pattern:
        # A pattern may name a file that ends in none of the known ways: it is then read as plain text.
        found = [file for file in found if any(_matches(file, path, pattern) for pattern in config.pattern)]
        accepted = f"no file in it matches corpus.pattern=[{','.join(config.pattern)}]"
    else:
        found = [file for file in found if _format(file) in FORMATS]
        accepted = f"it holds no file ending in {', '.join(FORMATS)} (also .gz)"
    if not found:
        raise ConfigurationError("corpus.path", config.path, accepted)
    return found


def documents(config: CorpusConfig, files: list[Path]) -> Iterator[Document]:
    """Yields the documents of local files, or of the hub data set where ``files`` is empty, always in the same order.

    Raises:
        BortError: A file cannot be read; the message names it and the line.
    """
    if not files:
        yield from _hub(config)
    for file in files:
        kind = _format(file)
        try:
            if kind == ".parquet":
                yield from _parquet(file, config)
                continue
            # Bytes that are not UTF-8 come through as lone surrogates, so that the caller can find, count and name them.
            with _open(file) as stream:
                yield from _READERS.get(kind, _plain)(file, stream, config)
        except (OSError, EOFError, zlib.error) as error:
            raise BortError(f"{file} cannot be read: {error}.") from error


def _format(path: Path) -> str:
    """Returns the suffix that says how a file is read: the one before ``.gz``, if there is one."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
        return suffixes[-1] if suffixes else ".txt"
    return suffixes[-1] if suffixes else ""


def _matches(file: Path, root: Path, pattern: str) -> bool:
    return fnmatch.fnmatch(file.name, pattern) or fnmatch.fnmatch(str(file.relative_to(root)), pattern)


def _open(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape")
    return path.open(encoding="utf-8-sig", errors="surrogateescape")


def _plain(file: Path, stream: IO[str], config: CorpusConfig) -> Iterator[Document]:
    starts = re.compile(config.document).match if config.document is not None else None
    lines: list[str] = []
    first = 1
    for number, line in enumerate(stream, 1):
        if "\0" in line:
            raise BortError(f"{file} cannot be read as text: line {number} holds a zero byte, as binary files do.")
        if (starts(line) is not None) if starts else not line.strip():
            if lines:
                yield Document("".join(lines), f"{file}:{first}")
            lines, first = [], number
        lines.append(line)
    if lines:
        yield Document("".join(lines), f"{file}:{first}")


def _json_lines(file: Path, stream: IO[str], config: CorpusConfig) -> Iterator[Document]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BortError(f"{file}:{number} is not a line of JSON: {error}.") from error
        if not isinstance(row, dict):
            raise BortError(f"{file}:{number} is not a JSON object with the column '{config.text_column}'.")
        yield Document(_text(row, config, f"{file}:{number}"), f"{file}:{number}")


def _table(file: Path, stream: IO[str], config: CorpusConfig) -> Iterator[Document]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(stream, delimiter="\t" if _format(file) == ".tsv" else ",")
    try:
        for row in reader:
            yield Document(_text(row, config, f"{file}:{reader.line_num}"), f"{file}:{reader.line_num}")
    except csv.Error as error:
        raise BortError(f"{file}:{reader.line_num} cannot be read as a table: {error}.") from error


def _parquet(file: Path, config: CorpusConfig) -> Iterator[Document]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        if config.text_column not in table.schema_arrow.names:
            _text(dict.fromkeys(table.schema_arrow.names), config, str(file))
        number = 0
        for batch in table.iter_batches(columns=[config.text_column]):
            for row in batch.to_pylist():
                number += 1
                yield Document(_text(row, config, f"{file}:{number}"), f"{file}:{number}")
    except pyarrow.ArrowException as error:
        raise BortError(f"{file} cannot be read as parquet: {error}.") from error


def _hub(config: CorpusConfig) -> Iterator[Document]:
    import datasets

    # The hub's client prints a line for each of its retries; the sentence below says it once.
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        rows = datasets.load_dataset(config.path, name=config.subset, split=config.split, revision=config.revision, streaming=True)
        for number, row in enumerate(rows, 1):
            yield Document(_text(row, config, f"{config.path}:{number}"), f"{config.path}:{number}")
    except (OSError, RuntimeError, ValueError, datasets.exceptions.DatasetsError) as error:
        at = f" at revision {config.revision}" if config.revision else ""
        raise BortError(
            f"corpus.path={config.path} is not on this machine, and no data set of that name could be read from the hub: "
            f"download its parquet files{f' of {config.subset}' if config.subset else ''}{at} into a folder and set "
            f"corpus.path=FOLDER ({_first_line(error)})."
        ) from error
    finally:
        logger.setLevel(level)


def _text(row: dict[str, Any], config: CorpusConfig, place: str) -> str:
    if config.text_column not in row:
        names = ", ".join(str(name) for name in row if name is not None)
        raise ConfigurationError("corpus.text_column", config.text_column, f"{place} has these columns: {names}")
    value = row[config.text_column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigurationError(
            "corpus.text_column", config.text_column, f"{place} holds a {type(value).__name__} there, and text is needed"
        )
    return value


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


_READERS: dict[str, Callable[[Path, IO[str], CorpusConfig], Iterator[Document]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _table,
    ".tsv": _table,
}
