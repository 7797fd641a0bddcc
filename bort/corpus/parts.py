"""Tokenised documents on disk, in reading order, in parts that are written whole: what an interrupted build goes on from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.corpus.config import CorpusConfig
from bort.corpus.readers import Document, documents
from bort.errors import BortError, RecordError
from bort.events import Observer
from bort.files import atomic_path, read_json, write_json

#: Characters of a part: a kill loses at most one part's work, and a part's memory stays small.
PART_CHARACTERS = 4_000_000
#: Longer documents reach the tokenizer in pieces, cut after a line's end, so that one of them does not occupy one thread alone.
PIECE_CHARACTERS = 50_000
DONE = "done.json"
_COUNTS = ("empty_documents", "invalid_documents", "characters")


class Parts:
    """The parts in a folder, opened; a part that cannot be read counts as not written, with all behind it.

    Attributes:
        count: How many parts there are.
        complete: Whether the whole corpus is in them.
        seen: How many documents were read for them, the rejected included.
        lengths: Tokens of each document that was kept, int64 [N].
        keys: A digest of each document's text and the seed, uint64 [N].
        counts: ``empty_documents``, ``invalid_documents`` and ``characters``.
    """

    def __init__(self, folder: Path) -> None:
        indices: list[dict[str, NDArray[Any]]] = []
        self._tokens: list[NDArray[Any]] = []
        while (opened := _open_part(folder, len(indices))) is not None:
            indices.append(opened[0])
            self._tokens.append(opened[1])
        self.count = len(indices)
        self.complete = (folder / DONE).exists() and read_json(folder / DONE)["parts"] == self.count
        self.seen = sum(int(index["seen"][0]) for index in indices)
        self.counts = {name: sum(int(index[name][0]) for index in indices) for name in _COUNTS}
        self.lengths: NDArray[np.int64] = np.concatenate([np.zeros(0, dtype=np.int64), *(index["lengths"] for index in indices)])
        self.keys: NDArray[np.uint64] = np.concatenate([np.zeros(0, dtype=np.uint64), *(index["keys"] for index in indices)])
        self._part = np.repeat(np.arange(self.count), [len(index["lengths"]) for index in indices])
        starts = [np.cumsum(index["lengths"]) - index["lengths"] for index in indices]
        self._starts: NDArray[np.int64] = np.concatenate([np.zeros(0, dtype=np.int64), *starts])

    def tokens(self, document: int) -> NDArray[Any]:
        """Returns the tokens of a document, [its length], memory-mapped."""
        start = self._starts[document]
        return self._tokens[self._part[document]][start : start + self.lengths[document]]

    def count_token(self, token: int) -> int:
        """Returns how often ``token`` occurs."""
        return sum(int((part == token).sum()) for part in self._tokens)


def write_parts(
    config: CorpusConfig, files: list[Path], bare: Any, dtype: np.dtype[Any], folder: Path, observer: Observer
) -> Parts:
    """Tokenises the documents that are not in ``folder`` yet, and returns all parts.

    Args:
        config: How documents are read.
        files: The files; none for a hub data set.
        bare: The tokenizer, as :func:`bort.corpus.tokenizer.bare_tokenizer` gives it.
        dtype: The type of stored tokens.
        folder: Where the parts are.
        observer: Hears of progress.

    Raises:
        BortError: A document cannot be read.
    """
    parts = Parts(folder)
    if parts.complete:
        return parts
    from safetensors.numpy import save_file

    number, seen, characters = parts.count, parts.seen, parts.counts["characters"]
    total = sum(file.stat().st_size for file in files)
    for batch in _batches(islice(documents(config, files), seen, config.max_documents)):
        counts = dict.fromkeys(_COUNTS, 0)
        kept = [encoded for encoded in (_accept(document, config, counts) for document in batch) if encoded]
        pieces = [_pieces(text) for text, _ in kept]
        encodings = iter(bare.encode_batch_fast(list(chain.from_iterable(pieces)), add_special_tokens=False))
        ids = [[token for piece in islice(encodings, len(group)) for token in piece.ids] for group in pieces]
        lengths = np.array([len(tokens) for tokens in ids], dtype=np.int64)
        index = {
            "lengths": lengths,
            "keys": np.array([_key(raw, config.seed) for _, raw in kept], dtype=np.uint64),
            "seen": np.array([len(batch)], dtype=np.int64),
            **{name: np.array([value], dtype=np.int64) for name, value in counts.items()},
        }
        # The index comes last: a part without one does not count.
        with atomic_path(_path(folder, number, "npy")) as temporary:
            np.save(temporary, np.fromiter(chain.from_iterable(ids), dtype=dtype, count=int(lengths.sum())), allow_pickle=False)
        with atomic_path(_path(folder, number, "safetensors")) as temporary:
            save_file(index, temporary)
        number, seen, characters = number + 1, seen + len(batch), characters + counts["characters"]
        # Bytes on disk against characters: right for plain English text, and a fair guess of the way for the rest.
        observer.progress("tokenise", characters, max(total, characters), f"{seen} documents")
    write_json(folder / DONE, {"parts": number})
    parts = Parts(folder)
    if not parts.complete:
        raise RecordError(f"The tokens just written to {folder} cannot be read back; check the disk and run again.")
    return parts


def _path(folder: Path, number: int, suffix: str) -> Path:
    return folder / f"{number:06d}.{suffix}"


def _open_part(folder: Path, number: int) -> tuple[dict[str, NDArray[Any]], NDArray[Any]] | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        index = load_file(_path(folder, number, "safetensors"))
        length = int(index["lengths"].sum())
        tokens = np.load(_path(folder, number, "npy"), mmap_mode="r" if length else None, allow_pickle=False)
    except (SafetensorError, OSError, ValueError, EOFError):
        return None
    return (index, tokens) if tokens.shape == (length,) else None


def _batches(stream: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in stream:
        batch.append(document)
        size += len(document.text)
        if size >= PART_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _accept(document: Document, config: CorpusConfig, counts: dict[str, int]) -> tuple[str, bytes] | None:
    """Returns a document's text and bytes, or nothing for one that is empty or, if so configured, not valid UTF-8."""
    # White space around a document tells of its neighbours, and byte-level tokenizers would make tokens of it.
    text = document.text.strip()
    if not text:
        counts["empty_documents"] += 1
        return None
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError as error:
        if config.invalid_utf8 == "refuse":
            raise BortError(
                f"The document at {document.place} is not valid UTF-8 (its character {error.start}); "
                "mend the file, or leave such documents out with corpus.invalid_utf8=skip."
            ) from error
        counts["invalid_documents"] += 1
        return None
    counts["characters"] += len(text)
    return text, raw


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


def _key(raw: bytes, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8, key=str(seed).encode("ascii")).digest(), "little")
