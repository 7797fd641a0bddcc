"""Tokenised documents on disk, in reading order, in parts that are written whole: what an interrupted build goes on from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.corpus.config import CorpusConfig
from bort.corpus.duplicates import MINIMA, Signatures
from bort.corpus.encode import COUNTS, Encoded
from bort.corpus.readers import Document
from bort.corpus.sources import Reader
from bort.corpus.workers import Batch, encode
from bort.errors import RecordError
from bort.files import atomic_path, parse_json, read_json, without_links, write_json
from bort.observer import Observer

#: Characters of a part: a kill loses at most a few parts' work, and a part's memory stays small.
PART_CHARACTERS = 4_000_000
DONE = "done.json"
TOKENS, SIGNATURES = "tokens.bin", "signatures.bin"


class Parts:
    """The parts in a folder, opened; a part whose data cannot be read counts as not written, with all behind it.

    The tokens of all parts stand in one file, and so do their signatures. A part counts once its index is there, and
    whatever stands behind the last of them is overwritten by the next: a kill leaves nothing half-written.

    Args:
        folder: Where the parts are.
        dtype: The type of stored tokens.

    Attributes:
        count: How many parts there are.
        complete: Whether the whole corpus is in them.
        seen: How many documents were read for them, those left out included.
        position: Where the reader stood behind the last of them; ``None`` before the first.
        lengths: Tokens of each document that was kept, int64 [N].
        starts: The place of each document's first token, int64 [N].
        keys: A digest of each document's text and the seed, uint64 [N].
        sources: The number of each document's source, int32 [N].
        counts: What :data:`bort.corpus.encode.COUNTS` names.
        tokens: The tokens of all documents, memory-mapped, [T].
        signatures: Their signatures, memory-mapped, [N, minima]; empty where near-duplicates are not looked for.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        indices: list[dict[str, NDArray[Any]]] = []
        there = {name: _size(folder / name) for name in (TOKENS, SIGNATURES)}
        ends = [0, 0]
        while (index := _index(folder, len(indices))) is not None:
            # What stands between two ends are the tokens, and the signatures, of the documents that the index counts.
            grown, signed = (int(end) - start for end, start in zip(index["ends"], ends, strict=True))
            fits = grown == int(index["lengths"].sum()) * dtype.itemsize and signed in (0, len(index["lengths"]) * MINIMA * 4)
            if not fits or any(there[name] < int(end) for name, end in zip(there, index["ends"], strict=True)):
                break
            ends = index["ends"].tolist()
            indices.append(index)
        self.count = len(indices)
        self.ends = {name: int(indices[-1]["ends"][place]) if indices else 0 for place, name in enumerate(there)}
        self.complete = (folder / DONE).exists() and read_json(folder / DONE) == {"parts": self.count}
        self.seen = sum(int(index["seen"][0]) for index in indices)
        self.position: dict[str, Any] | None = parse_json(indices[-1]["position"].tobytes()) if indices else None
        self.counts = {name: sum(int(index["counts"][place]) for index in indices) for place, name in enumerate(COUNTS)}
        self.lengths: NDArray[np.int64] = _joined([index["lengths"] for index in indices], np.int64)
        self.starts: NDArray[np.int64] = np.cumsum(self.lengths) - self.lengths
        self.keys: NDArray[np.uint64] = _joined([index["keys"] for index in indices], np.uint64)
        self.sources: NDArray[np.int32] = _joined([index["sources"] for index in indices], np.int32)
        self.tokens: NDArray[Any] = _mapped(folder / TOKENS, dtype, self.ends[TOKENS])
        minima = _mapped(folder / SIGNATURES, np.dtype(np.uint32), self.ends[SIGNATURES])
        self.signatures: Signatures = minima.reshape(-1, MINIMA)

    def count_token(self, token: int) -> int:
        """Returns how often ``token`` occurs."""
        step = 1 << 24
        return sum(int(np.count_nonzero(self.tokens[at : at + step] == token)) for at in range(0, len(self.tokens), step))


def write_parts(
    config: CorpusConfig,
    commits: list[str | None],
    bare: Any,
    dtype: np.dtype[Any],
    folder: Path,
    observer: Observer,
    *,
    workers: int = 1,
    total: int = 0,
) -> Parts:
    """Tokenises the documents that are not in ``folder`` yet, and returns all parts.

    Args:
        config: How documents are read and cleaned.
        commits: The commits of hub data sets, as :func:`bort.corpus.sources.commits_of` gives them.
        bare: The tokenizer, as :func:`bort.corpus.tokenizer.bare_tokenizer` gives it.
        dtype: The type of stored tokens.
        folder: Where the parts are.
        observer: Hears of progress.
        workers: Processes that tokenise.
        total: Bytes of all local files, to guess the way from.

    Raises:
        BortError: A document cannot be read.
    """
    parts = Parts(folder, dtype)
    if parts.complete:
        return parts
    number, ends, seen, characters = parts.count, parts.ends, parts.seen, parts.counts["characters"]
    batches = _batches(Reader(config, commits, parts.position))
    for encoded, position in encode(config, bare, dtype, batches, workers):
        ends = _write_part(folder, number, ends, encoded, position)
        number, seen, characters = number + 1, seen + encoded.seen, characters + encoded.counts["characters"]
        # Bytes on disk against characters: right for plain English text, and a fair guess of the way for the rest.
        observer.progress("tokenise", characters, max(total, characters), f"{seen} documents")
    write_json(folder / DONE, {"parts": number})
    parts = Parts(folder, dtype)
    if not parts.complete:
        raise RecordError(f"The tokens just written to {folder} cannot be read back; check the disk and run again.")
    return parts


def _write_part(folder: Path, number: int, ends: dict[str, int], encoded: Encoded, position: dict[str, Any]) -> dict[str, int]:
    from safetensors.numpy import save_file

    ends = {
        TOKENS: _append(folder / TOKENS, ends[TOKENS], encoded.tokens),
        SIGNATURES: _append(folder / SIGNATURES, ends[SIGNATURES], encoded.signatures),
    }
    index = {
        "lengths": encoded.lengths,
        "keys": encoded.keys,
        "sources": encoded.sources,
        "ends": np.array(list(ends.values()), dtype=np.int64),
        "seen": np.array([encoded.seen], dtype=np.int64),
        "counts": np.array([encoded.counts[name] for name in COUNTS], dtype=np.int64),
        "position": np.frombuffer(json.dumps(position).encode("utf-8"), dtype=np.uint8),
    }
    # The index comes last: a part without one does not count.
    with atomic_path(_path(folder, number)) as temporary:
        save_file(index, temporary)
    return ends


def _append(path: Path, end: int, values: NDArray[Any] | None) -> int:
    """Writes behind the first ``end`` bytes of a file, and returns its new end."""
    if values is None:
        return end
    with open(path, "r+b" if path.exists() else "x+b", opener=without_links) as file:
        file.truncate(end)
        file.seek(end)
        file.write(values.tobytes())
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"


def _index(folder: Path, number: int) -> dict[str, NDArray[Any]] | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        index = dict(load_file(_path(folder, number)))
        shapes = {"ends": (2,), "seen": (1,), "counts": (len(COUNTS),)}
        documents = {index[name].shape for name in ("lengths", "keys", "sources")}
        sound = documents == {(len(index["lengths"]),)} and all(index[name].shape == shape for name, shape in shapes.items())
        sound = sound and min(index["ends"]) >= 0 and isinstance(parse_json(index["position"].tobytes()), dict)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return index if sound else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mapped(path: Path, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    if not size:
        return np.zeros(0, dtype=dtype)
    # A plain view: slices of a memory map are ten times slower to make.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(size // dtype.itemsize,)))


def _joined(arrays: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays])


def _batches(reader: Reader) -> Iterator[Batch]:
    batch: list[Document] = []
    size = 0
    for document in reader:
        batch.append(document)
        size += len(document.text)
        if size >= PART_CHARACTERS:
            yield batch, reader.position()
            batch, size = [], 0
    if batch:
        yield batch, reader.position()
