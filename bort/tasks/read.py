"""Rows of CSV, TSV and JSONL files, with messages that name the row."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from bort.errors import BortError, ConfigurationError
from bort.files import parse_json

#: A column longer than this is a quotation mark that was never closed rather than a text.
_LONGEST_FIELD = 1 << 24
_FORMATS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".jsonl": None, ".ndjson": None}


@dataclass(frozen=True)
class Row:
    """The wanted columns of one row, and its line in the file; a column of options holds a list."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """How a file is laid out; see :class:`bort.tasks.config.TaskConfig`.

    Args:
        lists: Columns of JSONL that hold lists of texts.
    """

    header: bool = True
    delimiter: str | None = None
    quoted: bool | None = None
    malformed: str = "refuse"
    lists: tuple[str, ...] = ()


def read_rows(path: Path, key: str, columns: Mapping[str, Sequence[str]], layout: Layout) -> tuple[list[Row], int]:
    """Reads the named columns of a file.

    Args:
        path: The file; its suffix (before ``.gz``) tells the format.
        key: The configuration key that named the file, for messages.
        columns: Names of the columns that are needed, by the configuration key that asks for them.
        layout: How the file is laid out.

    Returns:
        The rows, and the number of malformed ones that were skipped.

    Raises:
        ConfigurationError: The file is missing, has another format, or lacks a column.
        BortError: The file is not readable text, or a row is malformed.
    """
    with _opened(path, key, layout) as (file, delimiter, quoted):
        if delimiter is None:
            return _read_json_lines(file, path, columns, layout)
        return _read_table(file, path, columns, layout, delimiter, quoted)


def columns_of(path: Path, key: str, layout: Layout) -> list[str]:
    """Returns the names of a file's columns: those of its first row or object, or numbers where the rows have no header.

    Raises:
        ConfigurationError: The file is missing or has another format.
        BortError: The file is not readable text, or empty.
    """
    with _opened(path, key, layout) as (file, delimiter, quoted):
        if delimiter is None:
            for _, record in _records(file, path):
                return list(record)
            raise BortError(f"{path} is empty.")
        return _header(_table_rows(file, path, delimiter, quoted), path, layout)[0]


@contextmanager
def _opened(path: Path, key: str, layout: Layout) -> Iterator[tuple[IO[str], str | None, bool]]:
    """Yields the open file, its separator (none for JSONL) and whether its fields are quoted."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if compressed else suffixes)[-1:] or [""]
    if suffix[0] not in _FORMATS:
        raise ConfigurationError(key, path, f"a file that ends in {', '.join(_FORMATS)} or one of these with .gz")
    if not path.is_file():
        raise ConfigurationError(key, path, "an existing file")
    delimiter = _FORMATS[suffix[0]] and (layout.delimiter or _FORMATS[suffix[0]])
    quoted = delimiter != "\t" if layout.quoted is None else layout.quoted
    # Where nothing is quoted, a carriage return inside a field is text: some of GLUE's files have them.
    newline = "" if quoted and delimiter is not None else "\n"
    opener: Any = gzip.open if compressed else open
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline=newline) as file:
            yield file, delimiter, quoted
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise BortError(f"{path} cannot be read as UTF-8 text: {error}.") from error
    finally:
        csv.field_size_limit(limit)


def _table_rows(file: IO[str], path: Path, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Yields each row that is not blank, with the line it ends in."""
    lines = file if quoted else (line.rstrip("\r\n").replace("\r", " ") for line in file)
    reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        remedy = "mend the quotation marks or set task.quoted=false" if quoted else "is it a table?"
        raise BortError(f"{path}, line {reader.line_num}: not readable as a table ({error}); {remedy}.") from error


def _header(rows: Iterator[tuple[int, list[str]]], path: Path, layout: Layout) -> tuple[list[str], tuple[int, list[str]]]:
    """Returns the names of the columns, and the first row with its line."""
    first = next(rows, None)
    if first is None:
        raise BortError(f"{path} is empty.")
    return ([name.strip() for name in first[1]] if layout.header else [str(place) for place in range(len(first[1]))]), first


def _read_table(
    file: IO[str], path: Path, columns: Mapping[str, Sequence[str]], layout: Layout, delimiter: str, quoted: bool
) -> tuple[list[Row], int]:
    table = _table_rows(file, path, delimiter, quoted)
    names, first = _header(table, path, layout)
    positions = _positions(path, columns, names)
    rows: list[Row] = []
    skipped = 0
    for line, fields in table if layout.header else chain([first], table):
        # A table with a header tells how many columns a row has. A trailing separator does no harm.
        uneven = layout.header and (len(fields) < len(names) or any(field.strip() for field in fields[len(names) :]))
        if len(fields) <= max(positions.values()) or uneven:
            if layout.malformed == "refuse":
                raise BortError(
                    f"{path}, line {line}: {len(fields)} columns where {len(names)} are needed; mend it or set task.malformed=skip."
                )
            skipped += 1
            continue
        rows.append(Row(line, {name: fields[position] for name, position in positions.items()}))
    return rows, skipped


def _read_json_lines(file: IO[str], path: Path, columns: Mapping[str, Sequence[str]], layout: Layout) -> tuple[list[Row], int]:
    rows: list[Row] = []
    skipped = 0
    wanted = [name for names in columns.values() for name in names]
    for line, record in _records(file, path):
        if not rows and not skipped:
            _positions(path, columns, list(record))
        lacking = [name for name in wanted if not _usable(record.get(name), name in layout.lists)]
        if lacking:
            if layout.malformed == "refuse":
                kind = "list of texts" if lacking[0] in layout.lists else "text or number"
                raise BortError(f"{path}, line {line}: no {kind} under '{lacking[0]}'; mend it or set task.malformed=skip.")
            skipped += 1
            continue
        rows.append(Row(line, {name: _text(record[name]) for name in wanted}))
    if not rows and not skipped:
        raise BortError(f"{path} is empty.")
    return rows, skipped


def read_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Reads the objects of a JSONL file as they stand, each with its line.

    Raises:
        BortError: The file cannot be read, is empty, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            records = list(_records(file, path))
    except (OSError, UnicodeDecodeError) as error:
        raise BortError(f"{path} cannot be read as UTF-8 text: {error}.") from error
    if not records:
        raise BortError(f"{path} is empty.")
    return records


def _records(file: IO[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            record = parse_json(text)
        except ValueError as error:
            raise BortError(f"{path}, line {line}: not valid JSON ({error}).") from error
        if not isinstance(record, dict):
            raise BortError(f"{path}, line {line}: an object with named columns is needed.")
        yield line, record


def _usable(value: Any, is_list: bool) -> bool:
    if is_list:
        return isinstance(value, list) and bool(value) and all(_usable(item, False) for item in value)
    # NaN is how tools write a field that is missing.
    return value is not None and not isinstance(value, (dict, list)) and value == value


def _positions(path: Path, columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, int]:
    positions = {}
    for key, wanted in columns.items():
        for name in wanted:
            if name not in names:
                shown = ", ".join(f"'{one}'" for one in names[:20])
                raise ConfigurationError(key, name, f"a column of {path}, which has {shown}")
            positions[name] = names.index(name)
    return positions


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
