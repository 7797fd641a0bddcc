"""Documents out of local files, one at a time, with a place to name when one cannot be used."""

from __future__ import annotations

import csv
import fnmatch
import gzip
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from bort.corpus.config import SourceConfig
from bort.errors import BortError, ConfigurationError
from bort.files import parse_json


@dataclass(frozen=True)
class Document:
    """One document and where it was read.

    Args:
        text: Its text; bytes that are not valid UTF-8 stand in it as lone surrogates.
        place: ``file:line`` or ``file:row``.
        source: The number of its source.
    """

    text: str
    place: str
    source: int = 0


def grouped(rows: Iterator[Document], source: SourceConfig) -> Iterator[Document]:
    """Joins ``rows_per_document`` rows that follow each other, a line each."""
    if source.rows_per_document == 1:
        yield from rows
        return
    while group := list(islice(rows, source.rows_per_document)):
        yield Document("\n".join(row.text for row in group), group[0].place)


def text_of(row: Mapping[str, Any], source: SourceConfig, key: str, place: str) -> str:
    """Returns the text of a row of a table.

    Raises:
        ConfigurationError: The row has no such column, or no text in it.
    """
    if source.text_column not in row:
        names = ", ".join(str(name) for name in row if name is not None)
        raise ConfigurationError(f"{key}.text_column", source.text_column, f"a column of {place}, which has these columns: {names}")
    value = row[source.text_column]
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{key}.text_column", source.text_column, f"a column of text: {place} has a {type(value).__name__} there"
        )
    return value


#: What can be read, by the end of the file's name; ``.gz`` may follow all but parquet.
FORMATS = (".txt", ".text", ".raw", ".md", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")

#: How the datasets library names the files of a split.
_SHARD = re.compile(r"(?P<split>\w+)-\d{5}-of-\d{5}\b.*\.parquet")

#: Rows of a parquet file that are in memory at once.
_ROWS = 512


def files_of(source: SourceConfig, key: str = "corpus") -> list[Path]:
    """Returns the files that ``path`` and ``pattern`` name, sorted.

    Of parquet files named as the datasets library names them (``train-00000-of-00002.parquet``) those of the wanted split are
    taken, and of a folder that holds folders of the wanted subset and split, those.

    Raises:
        ConfigurationError: The path is missing, or nothing in it can be read.
    """
    path = Path(source.path).expanduser()
    if path.is_file():
        if _format(path) not in FORMATS:
            raise ConfigurationError(f"{key}.path", source.path, f"a file ending in {', '.join(FORMATS)} (also .gz)")
        return [path]
    if not path.is_dir():
        raise ConfigurationError(f"{key}.path", source.path, "an existing file or folder of text")
    for part in (source.folder, source.subset):
        if part and (path / part).is_dir():
            path = path / part
            if (path / source.split).is_dir():
                path = path / source.split
    found = visible_files(path)
    if source.pattern:
        # A pattern may name a file that ends in none of the known ways: it is then read as plain text.
        found = [file for file in found if any(_matches(file, path, pattern) for pattern in source.pattern)]
        accepted = f"a folder with a file that matches {key}.pattern=[{','.join(source.pattern)}]"
    else:
        found = [file for file in found if _format(file) in FORMATS]
        accepted = f"a folder with a file ending in {', '.join(FORMATS)} (also .gz)"
    if not found:
        raise ConfigurationError(f"{key}.path", source.path, accepted)
    return _of_split(found, source, key)


def visible_files(folder: Path) -> list[Path]:
    """Returns the files in a folder at any depth, sorted; what begins with a dot is left out, folders too."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


class FileRows:
    """The documents of local files, from a place where an earlier reading stopped.

    Args:
        source: How the files are read.
        key: The dotted key of its settings.
        files: The files, in reading order.
        state: What :meth:`state` returned after the last document that was used.
    """

    def __init__(self, source: SourceConfig, key: str, files: list[Path], state: dict[str, Any] | None = None) -> None:
        self._source, self._key, self._files = source, key, files
        self._file, self._read = (int(state["file"]), int(state["documents"])) if state else (0, 0)

    def state(self) -> dict[str, Any]:
        """Returns the place after the last document that was yielded, as JSON-like values."""
        return {"file": self._file, "documents": self._read}

    def __iter__(self) -> Iterator[Document]:
        for number in range(self._file, len(self._files)):
            self._file = number
            for document in islice(self._documents(self._files[number]), self._read, None):
                self._read += 1
                yield document
            self._read = 0

    def _documents(self, file: Path) -> Iterator[Document]:
        kind = _format(file)
        try:
            if kind == ".parquet":
                yield from grouped(_parquet(file, self._source, self._key), self._source)
                return
            # Bytes that are not UTF-8 come through as lone surrogates, so that the caller can find, count and name them.
            with _open(file) as stream:
                if kind in _TABLES:
                    yield from grouped(_TABLES[kind](file, stream, self._source, self._key), self._source)
                else:
                    yield from _plain(file, stream, self._source)
        except (OSError, EOFError, zlib.error) as error:
            raise BortError(f"{file} cannot be read: {error}.") from error


def _of_split(found: list[Path], source: SourceConfig, key: str) -> list[Path]:
    splits = [match.group("split") if (match := _SHARD.fullmatch(file.name)) else None for file in found]
    named = sorted({split for split in splits if split})
    if not named:
        return found
    chosen = [file for file, split in zip(found, splits, strict=True) if split == source.split]
    if not chosen:
        raise ConfigurationError(f"{key}.split", source.split, f"one of {', '.join(named)} in {source.path}")
    return chosen


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


def _plain(file: Path, stream: IO[str], source: SourceConfig) -> Iterator[Document]:
    starts = re.compile(source.document).match if source.document is not None else None
    lines: list[str] = []
    first = 1
    for number, line in enumerate(stream, 1):
        if (starts(line) is not None) if starts else not line.strip():
            if lines:
                yield Document("".join(lines), f"{file}:{first}")
            lines, first = [], number
        lines.append(line)
    if lines:
        yield Document("".join(lines), f"{file}:{first}")


def _json_lines(file: Path, stream: IO[str], source: SourceConfig, key: str) -> Iterator[Document]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        try:
            row = parse_json(line, halves=True)
        except ValueError as error:
            raise BortError(f"{place} is not a line of JSON: {error}.") from error
        if not isinstance(row, dict):
            raise BortError(f"{place} is not a JSON object with the column '{source.text_column}'.")
        yield Document(text_of(row, source, key, place), place)


def _table(file: Path, stream: IO[str], source: SourceConfig, key: str) -> Iterator[Document]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(stream, delimiter="\t" if _format(file) == ".tsv" else ",")
    try:
        for row in reader:
            place = f"{file}:{reader.line_num}"
            yield Document(text_of(row, source, key, place), place)
    except csv.Error as error:
        raise BortError(f"{file}:{reader.line_num} cannot be read as a table: {error}.") from error


def _parquet(file: Path, source: SourceConfig, key: str) -> Iterator[Document]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        schema = table.schema_arrow
        if source.text_column not in schema.names:
            text_of(dict.fromkeys(schema.names), source, key, str(file))
        kind = schema.field(source.text_column).type
        text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
        number = 0
        for batch in table.iter_batches(_ROWS, columns=[source.text_column]):
            # Read as bytes, so that text that is not valid UTF-8 can be counted like that of other files.
            column = batch.column(0).cast(pyarrow.large_binary()) if text else batch.column(0)
            for value in column.to_pylist():
                number += 1
                place = f"{file}:{number}"
                yield Document(text_of({source.text_column: value}, source, key, place), place)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        # Names of columns that are no UTF-8 are pyarrow's own to read, and it raises Python's error for them.
        raise BortError(f"{file} cannot be read as parquet: {error}.") from error


_TABLES: dict[str, Callable[[Path, IO[str], SourceConfig, str], Iterator[Document]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _table,
    ".tsv": _table,
}
