"""Documents to tokens: each is cleaned, counted and tokenised for itself, so that it does not matter who does it when."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.corpus.config import CorpusConfig
from bort.corpus.duplicates import Signatures, signatures
from bort.corpus.language import is_in
from bort.corpus.markup import without_markup, without_tables
from bort.corpus.readers import Document
from bort.errors import BortError

#: Longer documents reach the tokenizer in pieces, cut after a line's end: its time grows faster than the length of a text.
PIECE_CHARACTERS = 50_000
#: Pieces go to the tokenizer in groups of so many characters: its encodings take a hundred bytes a token.
_GROUP_CHARACTERS = 1_000_000
#: What is counted of a batch of documents. ``…_characters`` are those that a step removed.
COUNTS = (
    "empty_documents",
    "invalid_documents",
    "characters",
    "markup_documents",
    "markup_characters",
    "tables_documents",
    "tables_characters",
    "short_documents",
    "short_characters",
    "language_documents",
    "language_characters",
)


@dataclass(frozen=True)
class Encoded:
    """A batch of documents, tokenised.

    Args:
        tokens: The tokens of all documents that are kept, one after the other.
        lengths: Tokens of each, int64 [N].
        keys: A digest of each document's text and the seed, uint64 [N].
        sources: The number of each document's source, int32 [N].
        signatures: Their signatures for near-duplicates, where those are looked for, [N, minima].
        seen: How many documents the batch held, those left out included.
        counts: What :data:`COUNTS` names.
    """

    tokens: NDArray[Any]
    lengths: NDArray[np.int64]
    keys: NDArray[np.uint64]
    sources: NDArray[np.int32]
    signatures: Signatures | None
    seen: int
    counts: dict[str, int]


class Encoder:
    """Makes tokens of documents.

    Args:
        config: The corpus.
        bare: The tokenizer, as :func:`bort.corpus.tokenizer.bare_tokenizer` gives it.
        dtype: The type of stored tokens.
    """

    def __init__(self, config: CorpusConfig, bare: Any, dtype: np.dtype[Any]) -> None:
        self._config, self._bare, self._dtype = config, bare, dtype
        self._sources = [source for _, source in config.all_sources()]
        self._seed = str(config.seed).encode("ascii")

    def __call__(self, documents: Sequence[Document]) -> Encoded:
        """Cleans and tokenises a batch of documents.

        Raises:
            BortError: A document is not valid UTF-8, and such documents are to be refused.
        """
        counts = dict.fromkeys(COUNTS, 0)
        texts: list[str] = []
        raws: list[bytes] = []
        sources: list[int] = []
        for document in documents:
            accepted = self._accept(document, counts)
            if accepted:
                texts.append(accepted[0])
                raws.append(accepted[1])
                sources.append(document.source)
        tokens, lengths = self._tokenise(texts)
        cleaning = self._config.cleaning
        return Encoded(
            tokens=tokens,
            lengths=lengths,
            keys=np.array([self._key(raw) for raw in raws], dtype=np.uint64),
            sources=np.array(sources, dtype=np.int32),
            signatures=signatures(raws, cleaning.shingle_words) if cleaning.near_duplicates is not None else None,
            seen=len(documents),
            counts=counts,
        )

    def _accept(self, document: Document, counts: dict[str, int]) -> tuple[str, bytes] | None:
        """Returns a document's text after cleaning, and its bytes; nothing for one that is left out."""
        text = document.text
        fault = None
        try:
            text.encode("utf-8")
            if "\0" in text:
                line = text.count("\n", 0, text.index("\0"))
                fault = f"holds a zero byte, as binary files do ({line} lines below its start)"
        except UnicodeEncodeError as error:
            fault = f"is not valid UTF-8 (its character {error.start})"
        if fault:
            if self._config.invalid_utf8 == "refuse":
                raise BortError(
                    f"The document at {document.place} {fault}; "
                    "mend the file, or leave such documents out with corpus.invalid_utf8=skip."
                )
            counts["invalid_documents"] += 1
            return None
        text = self._clean(text, document.source, counts)
        if not text:
            counts["empty_documents"] += 1
            return None
        for step, wanted in (("short", self._is_long), ("language", self._is_in_language)):
            if not wanted(text):
                counts[f"{step}_documents"] += 1
                counts[f"{step}_characters"] += len(text)
                return None
        counts["characters"] += len(text)
        return text, text.encode("utf-8")

    def _clean(self, text: str, source: int, counts: dict[str, int]) -> str:
        # White space around a document tells of its neighbours, and byte-level tokenizers would make tokens of it.
        text = text.strip()
        markup = self._sources[source].markup
        for step in (["tables"] if self._config.cleaning.tables else []) + (["markup"] if markup else []):
            cleaned = (without_tables(text) if step == "tables" else without_markup(text, markup)).strip()
            if cleaned != text:
                counts[f"{step}_documents"] += 1
                counts[f"{step}_characters"] += len(text) - len(cleaned)
                text = cleaned
        return text

    def _is_long(self, text: str) -> bool:
        least = self._config.cleaning.min_words
        # Splitting stops once there are enough words: the rest stays in one piece.
        return not least or len(text.split(None, least)) >= least

    def _is_in_language(self, text: str) -> bool:
        cleaning = self._config.cleaning
        return cleaning.language is None or is_in(text, cleaning.language, cleaning.language_score)

    def _tokenise(self, texts: list[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        pieces = [_pieces(text) for text in texts]
        made: list[NDArray[Any]] = [np.zeros(0, dtype=self._dtype)]
        lengths: list[int] = []
        with _serial():
            for group in _groups(list(chain.from_iterable(pieces))):
                encodings = self._bare.encode_batch_fast(group, add_special_tokens=False)
                lengths += map(len, encodings)
                ids = chain.from_iterable(encoding.ids for encoding in encodings)
                made.append(np.fromiter(ids, dtype=self._dtype, count=sum(lengths[len(lengths) - len(group) :])))
        starts = np.cumsum([0, *(len(group) for group in pieces)])
        totals = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return np.concatenate(made), totals[starts[1:]] - totals[starts[:-1]]

    def _key(self, raw: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(raw, digest_size=8, key=self._seed).digest(), "little")


def _groups(pieces: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece)
        if size >= _GROUP_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = text.rfind("\n", start, start + PIECE_CHARACTERS) + 1
        if end <= start:
            end = text.rfind(" ", start, start + PIECE_CHARACTERS)
        if end <= start:
            end = start + PIECE_CHARACTERS
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:])
    return pieces


@contextmanager
def _serial() -> Iterator[None]:
    """Keeps the tokenizer in its caller's thread: whole batches are shared out among processes instead."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
