"""Settings of a corpus, its cleaning and its masks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval

from bort.errors import ConfigurationError
from bort.settings import NAME, OneOf, Rule, or_empty

#: Treatment of text that is not valid UTF-8, or no text at all.
INVALID_UTF8 = ("refuse", "skip")
#: Markup languages of texts.
MARKUP = ("html", "wiki")
#: The languages that can be identified, by their ISO 639-1 codes.
LANGUAGES = ("cs", "da", "de", "el", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "ro", "ru", "sv", "tr", "uk")


def _compiles(pattern: str) -> bool:
    try:
        return bool(re.compile(pattern))
    except re.error as error:
        raise ValueError(str(error)) from error


@dataclass
class SourceConfig:
    """A source of unlabelled text."""

    name: Annotated[str, or_empty(NAME)] = ""
    """Name of the source in records; in a corpus of several sources also the name of its folder below
    ``corpus.path``.
    """

    path: str = ""
    """A file, a folder, or the hub id of a data set (``owner/name``). A folder may hold text files, or be a
    data set of the datasets library: a copy of a hub repository, or the output of ``save_to_disk``.
    """

    pattern: list[str] = field(default_factory=list)
    """File name patterns to read if ``path`` is a folder; empty for every readable format."""

    text_column: str = "text"
    """The column of the text in JSONL, CSV, TSV and parquet files and in data sets."""

    document: Annotated[str, Rule("a regular expression", _compiles)] | None = None
    """For plain text, a regular expression matched against the start of each line: a matching line begins a
    document. Without it, blank lines separate documents. ``(?!)``, which never matches, makes each file one
    document.
    """

    rows_per_document: Annotated[int, Ge(1)] = 1
    """Consecutive rows of a table that form one document: more than 1 if a row is a sentence."""

    markup: list[Annotated[str, OneOf(*MARKUP)]] = field(default_factory=list)
    """Markup of the text, any of ``html`` and ``wiki``; its tags, templates and links are removed."""

    max_documents: Annotated[int, Ge(1)] | None = None
    """Largest number of documents, in reading order; ``null`` for all."""

    revision: str | None = None
    """For a hub data set, the commit (or branch)."""

    subset: str | None = None
    """For a data set, the name of its configuration."""

    folder: str | None = None
    """For a data set, the folder in its repository to read, if configurations are folders."""

    split: str = "train"
    """For a data set, the split to read."""

    streaming: bool = True
    """Whether a hub data set is streamed; otherwise it is downloaded first."""


@dataclass
class CleaningConfig:
    """Cleaning steps; each is off by default and counts what it removes."""

    tables: bool = False
    """Whether tables are removed from texts: those of HTML, wiki text and Markdown, and runs of lines with
    tabs.
    """

    min_words: Annotated[int, Ge(0)] = 0
    """Documents of fewer words are removed."""

    language: Annotated[str, OneOf(*LANGUAGES)] | None = None
    """Language of the documents to keep, as an ISO 639-1 code; ``null`` keeps all."""

    language_score: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    """Smallest share of words that are among the most frequent of that language."""

    duplicates: bool = False
    """Whether only one of equal documents is kept."""

    near_duplicates: Annotated[float, Interval(ge=0.3, le=1)] | None = None
    """Jaccard similarity, in shingles of words, from which two documents count as one; ``null`` for none."""

    shingle_words: Annotated[int, Interval(ge=1, le=20)] = 5
    """Words of a shingle."""


@dataclass
class CorpusConfig(SourceConfig):
    """Sources of unlabelled text, their cleaning, and their packing into blocks.

    The settings of a source describe the only one, unless ``sources`` is set. Then ``path``, if set, is a folder with local copies:
    a folder below it with the name of a source replaces that source, and ``max_documents`` limits each source without a limit.
    """

    name: str = "local"
    """Name of the corpus in records and reports."""

    sources: list[SourceConfig] = field(default_factory=list)
    """The sources, if there are several; documents of all are mixed evenly."""

    heldout: Annotated[float, Interval(ge=0, lt=1)] = 0.05
    """Share of the documents in the held-out split."""

    block_length: Annotated[int, Ge(8)] = 128
    """Tokens of a block, special tokens included."""

    seed: Annotated[int, Ge(0)] = 0
    """Seed of the order of documents, and thereby of the split."""

    invalid_utf8: Annotated[str, OneOf(*INVALID_UTF8)] = "refuse"
    """``refuse`` stops at the first document that is not valid UTF-8 or contains a zero byte, as binary files
    do; ``skip`` skips and counts such documents.
    """

    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    """The cleaning steps."""

    def check(self, key: str) -> None:
        """Refuse a source without a path, and several sources without distinct names."""
        if self.sources and self.path and not Path(self.path).expanduser().is_dir():
            accepted = f"a folder that holds a folder for each of {key}.sources"
            raise ConfigurationError(f"{key}.path", self.path, accepted)
        names = [source.name for source in self.sources]
        if "" in names or len(set(names)) < len(names):
            raise ConfigurationError(f"{key}.sources", names, "sources with distinct, non-empty names")
        for at, source in self.all_sources():
            if not source.path:
                accepted = "a file, a folder of text, or the hub id of a data set"
                raise ConfigurationError(f"{at}.path", source.path, accepted)

    @property
    def where(self) -> str:
        """Where the text comes from, in a few words."""
        return self.path or ", ".join(source.path for source in self.sources)

    def all_sources(self) -> list[tuple[str, SourceConfig]]:
        """Returns every source with the dotted key of its settings, local copies and limits filled in."""
        if not self.sources:
            return [("corpus", self)]
        filled = []
        for number, source in enumerate(self.sources):
            copy = Path(self.path).expanduser() / source.name if self.path else None
            path = str(copy) if copy is not None and copy.is_dir() else source.path
            limit = self.max_documents if source.max_documents is None else source.max_documents
            filled.append((f"corpus.sources.{number}", replace(source, path=path, max_documents=limit)))
        return filled


@dataclass
class MaskingConfig:
    """Share of masked tokens and their replacement (BERT's 80/10/10 by default)."""

    probability: Annotated[float, Interval(gt=0, le=0.5)] = 0.15
    """Share of a block's inner positions that is masked; every block has the same number of masked positions.
    """

    random: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """Share of the masked positions that receive a random token."""

    keep: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """Share of the masked positions that keep their token."""

    seed: Annotated[int, Ge(0)] = 0
    """Seed of the masks."""

    whole_words: bool = False
    """Whether words are masked with all their tokens rather than tokens one by one."""

    def check(self, key: str) -> None:
        """Refuse shares that exceed 1 together."""
        if self.random + self.keep > 1.0:
            raise ConfigurationError(f"{key}.random", self.random, f"<= 1 - {key}.keep={self.keep}")

    def positions(self, block_length: int) -> int:
        """Returns K, the masked positions of every block: the share of its inner positions, at least 1."""
        return max(1, round(self.probability * (block_length - 2)))
