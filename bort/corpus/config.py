"""The settings of a corpus and of its masks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bort.errors import ConfigurationError

#: What is done with text that is not valid UTF-8.
INVALID_UTF8 = ("refuse", "skip")


@dataclass
class CorpusConfig:
    """Where unlabelled text comes from and how it is cut into blocks.

    Args:
        name: The corpus's name in records and reports.
        path: A file, a folder, or the hub id of a data set (``owner/name``).
        pattern: File name patterns that are read when ``path`` is a folder; empty for every format that can be read.
        text_column: The column of the text in JSONL, CSV, TSV and parquet files and in hub data sets.
        document: For plain text, a regular expression matched against the start of each line: a line that matches begins a
            document. Without it, blank lines separate documents. ``(?!)``, which never matches, keeps each file whole.
        heldout: The share of documents that is held out, from 0 to less than 1.
        block_length: Tokens of a block, special tokens included.
        max_documents: Only so many documents are read, in reading order.
        seed: Seeds the order of documents, and with it the split.
        invalid_utf8: ``refuse`` stops at the first document that is not valid UTF-8; ``skip`` leaves such documents
            out and counts them.
        revision: For a hub data set, the commit that is read.
        subset: For a hub data set, the name of its configuration.
        split: For a hub data set, the split that is read.
    """

    name: str = "local"
    path: str = ""
    pattern: list[str] = field(default_factory=list)
    text_column: str = "text"
    document: str | None = None
    heldout: float = 0.05
    block_length: int = 128
    max_documents: int | None = None
    seed: int = 0
    invalid_utf8: str = "refuse"
    revision: str | None = None
    subset: str | None = None
    split: str = "train"

    def check(self) -> None:
        """Checks every value on its own.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        if not self.path:
            raise ConfigurationError("corpus.path", self.path, "name a file, a folder of text, or the hub id of a data set")
        if not 0.0 <= self.heldout < 1.0:
            raise ConfigurationError("corpus.heldout", self.heldout, "a share from 0 to less than 1 is accepted, e.g. 0.05")
        if self.block_length < 8:
            raise ConfigurationError("corpus.block_length", self.block_length, "a whole number of at least 8 is accepted")
        if self.max_documents is not None and self.max_documents < 1:
            raise ConfigurationError("corpus.max_documents", self.max_documents, "null or a whole number of at least 1 is accepted")
        if self.seed < 0:
            raise ConfigurationError("corpus.seed", self.seed, "a whole number of at least 0 is accepted")
        if self.invalid_utf8 not in INVALID_UTF8:
            raise ConfigurationError("corpus.invalid_utf8", self.invalid_utf8, f"use one of {', '.join(INVALID_UTF8)}")
        if self.document is not None:
            try:
                re.compile(self.document)
            except re.error as error:
                raise ConfigurationError(
                    "corpus.document", self.document, f"a regular expression is needed, and this one has a fault: {error}"
                ) from error


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
