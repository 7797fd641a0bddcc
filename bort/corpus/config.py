"""The settings of a corpus, of its cleaning and of its masks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from bort.errors import ConfigurationError

#: What is done with text that is not valid UTF-8, or is no text at all.
INVALID_UTF8 = ("refuse", "skip")
#: What a text may be written in.
MARKUP = ("html", "wiki")
#: The languages that can be told apart, by their ISO 639-1 codes.
LANGUAGES = ("cs", "da", "de", "el", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "ro", "ru", "sv", "tr", "uk")


@dataclass
class SourceConfig:
    """Where unlabelled text comes from and how it is read.

    Args:
        name: The source's name in records; in a corpus of several sources also that of its folder below ``corpus.path``.
        path: A file, a folder, or the hub id of a data set (``owner/name``). A folder may hold text files, or be a data set
            of the datasets library: a copy of a hub repository, or what ``save_to_disk`` wrote.
        pattern: File name patterns that are read when ``path`` is a folder; empty for every format that can be read.
        text_column: The column of the text in JSONL, CSV, TSV and parquet files and in data sets.
        document: For plain text, a regular expression matched against the start of each line: a line that matches begins a
            document. Without it, blank lines separate documents. ``(?!)``, which never matches, keeps each file whole.
        rows_per_document: So many rows of a table follow each other in one document: more than 1 where a row is a sentence.
        markup: What the text is written in, any of ``html`` and ``wiki``; its tags, templates and links are taken out.
        max_documents: Only so many documents are read, in reading order.
        revision: For a hub data set, the commit (or branch) that is read.
        subset: For a data set, the name of its configuration.
        folder: For a data set, the folder in its repository that is read, where configurations are folders.
        split: For a data set, the split that is read.
        streaming: Whether a hub data set is read as it comes; otherwise it is downloaded whole first.
    """

    name: str = ""
    path: str = ""
    pattern: list[str] = field(default_factory=list)
    text_column: str = "text"
    document: str | None = None
    rows_per_document: int = 1
    markup: list[str] = field(default_factory=list)
    max_documents: int | None = None
    revision: str | None = None
    subset: str | None = None
    folder: str | None = None
    split: str = "train"
    streaming: bool = True

    def check_source(self, key: str) -> None:
        """Checks every value on its own.

        Args:
            key: The dotted key of this source, e.g. ``corpus`` or ``corpus.sources.0``.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if not self.path:
            raise ConfigurationError(f"{key}.path", self.path, "name a file, a folder of text, or the hub id of a data set")
        if self.rows_per_document < 1:
            raise ConfigurationError(f"{key}.rows_per_document", self.rows_per_document, "a whole number of at least 1 is accepted")
        if self.max_documents is not None and self.max_documents < 1:
            raise ConfigurationError(f"{key}.max_documents", self.max_documents, "null or a whole number of at least 1 is accepted")
        for kind in self.markup:
            if kind not in MARKUP:
                raise ConfigurationError(f"{key}.markup", kind, f"use any of {', '.join(MARKUP)}")
        if self.document is not None:
            try:
                re.compile(self.document)
            except re.error as error:
                raise ConfigurationError(
                    f"{key}.document", self.document, f"a regular expression is needed, and this one has a fault: {error}"
                ) from error


@dataclass
class CleaningConfig:
    """What is taken out of a corpus; each step is off unless asked for, and counts what it removed.

    Args:
        tables: Whether tables are removed from texts: those of HTML, wiki text and Markdown, and runs of lines with tabs.
        min_words: Documents of fewer words are left out.
        language: The language of the documents that are kept, as an ISO 639-1 code; ``null`` keeps all.
        language_score: The least share of words that are among the commonest of that language.
        duplicates: Whether only one of equal documents is kept.
        near_duplicates: The Jaccard similarity, in shingles of words, from which two documents count as one; ``null`` for none.
        shingle_words: Words of a shingle.
    """

    tables: bool = False
    min_words: int = 0
    language: str | None = None
    language_score: float = 0.1
    duplicates: bool = False
    near_duplicates: float | None = None
    shingle_words: int = 5

    def check(self) -> None:
        """Checks every value on its own.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        key = "corpus.cleaning"
        if self.min_words < 0:
            raise ConfigurationError(f"{key}.min_words", self.min_words, "a whole number of at least 0 is accepted")
        if self.language is not None and self.language not in LANGUAGES:
            raise ConfigurationError(f"{key}.language", self.language, f"null or one of {', '.join(LANGUAGES)} is accepted")
        if not 0.0 < self.language_score < 1.0:
            raise ConfigurationError(f"{key}.language_score", self.language_score, "a share above 0 and below 1 is accepted")
        if self.near_duplicates is not None and not 0.3 <= self.near_duplicates <= 1.0:
            raise ConfigurationError(
                f"{key}.near_duplicates", self.near_duplicates, "null or a similarity from 0.3 to 1 is accepted, e.g. 0.8"
            )
        if not 1 <= self.shingle_words <= 20:
            raise ConfigurationError(f"{key}.shingle_words", self.shingle_words, "a whole number from 1 to 20 is accepted")


@dataclass
class CorpusConfig(SourceConfig):
    """Where unlabelled text comes from, what is taken out of it, and how it is cut into blocks.

    The settings of a source describe the only one, unless there are several under ``sources``. Then ``path``, where it is given,
    is a folder with local copies: a folder below it that bears a source's name stands for that source, and ``max_documents``
    limits each source that has no limit of its own.

    Args:
        name: The corpus's name in records and reports.
        sources: The sources, where there are several; documents of all are mixed evenly.
        heldout: The share of documents that is held out, from 0 to less than 1.
        block_length: Tokens of a block, special tokens included.
        seed: Seeds the order of documents, and with it the split.
        invalid_utf8: ``refuse`` stops at the first document that is not valid UTF-8 or holds a zero byte, as binary files do;
            ``skip`` leaves such documents out and counts them.
        cleaning: What is taken out.
    """

    name: str = "local"
    sources: list[SourceConfig] = field(default_factory=list)
    heldout: float = 0.05
    block_length: int = 128
    seed: int = 0
    invalid_utf8: str = "refuse"
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)

    def check(self) -> None:
        """Checks every value on its own.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if not 0.0 <= self.heldout < 1.0:
            raise ConfigurationError("corpus.heldout", self.heldout, "a share from 0 to less than 1 is accepted, e.g. 0.05")
        if self.block_length < 8:
            raise ConfigurationError("corpus.block_length", self.block_length, "a whole number of at least 8 is accepted")
        if self.seed < 0:
            raise ConfigurationError("corpus.seed", self.seed, "a whole number of at least 0 is accepted")
        if self.invalid_utf8 not in INVALID_UTF8:
            raise ConfigurationError("corpus.invalid_utf8", self.invalid_utf8, f"use one of {', '.join(INVALID_UTF8)}")
        self.cleaning.check()
        if self.sources and self.path and not Path(self.path).expanduser().is_dir():
            raise ConfigurationError(
                "corpus.path", self.path, "it is no folder; with corpus.sources it names one that holds a folder for each source"
            )
        names = [source.name for source in self.sources]
        if "" in names or len(set(names)) < len(names):
            raise ConfigurationError("corpus.sources", names, "each source needs a name of its own")
        for key, source in self.all_sources():
            source.check_source(key)

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
    """Which tokens are masked, and what stands in their place (BERT's 80/10/10 by default).

    Args:
        probability: The share of a block's inner positions that is masked; always the same number of positions a block.
        random: Of the masked positions, the share that gets a random token.
        keep: Of the masked positions, the share that keeps its token.
        seed: Seeds the masks.
        whole_words: Whether words are masked with all their tokens rather than tokens one by one.
    """

    probability: float = 0.15
    random: float = 0.1
    keep: float = 0.1
    seed: int = 0
    whole_words: bool = False

    def check(self) -> None:
        """Checks every value.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if not 0.0 < self.probability <= 0.5:
            raise ConfigurationError("masking.probability", self.probability, "a share above 0 and up to 0.5 is accepted")
        for key, value in (("random", self.random), ("keep", self.keep)):
            if not 0.0 <= value <= 1.0:
                raise ConfigurationError(f"masking.{key}", value, "a share from 0 to 1 is accepted")
        if self.random + self.keep > 1.0:
            raise ConfigurationError("masking.random", self.random, f"with masking.keep={self.keep} the two may not exceed 1")
        if self.seed < 0:
            raise ConfigurationError("masking.seed", self.seed, "a whole number of at least 0 is accepted")

    def positions(self, block_length: int) -> int:
        """Returns K, the masked positions of every block: the share of its inner positions, at least 1."""
        return max(1, round(self.probability * (block_length - 2)))
