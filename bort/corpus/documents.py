"""What a document is, and how rows become documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bort.corpus.config import SourceConfig
from bort.errors import ConfigurationError


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
        raise ConfigurationError(f"{key}.text_column", source.text_column, f"{place} has these columns: {names}")
    value = row[source.text_column]
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{key}.text_column", source.text_column, f"{place} holds a {type(value).__name__} there, and text is needed"
        )
    return value
