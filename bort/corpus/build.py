"""Text to blocks: read, tokenise, split by document, pack; interrupted at any point, it goes on from there.

First every document is tokenised, in reading order, into parts that are written whole; then the documents are put into the order
of a seeded digest of their text and packed. The order depends on the texts and the seed alone, not on the names or the order of
files, and documents that are the same word for word stand next to each other, so that they never fall on both sides of the split.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.corpus.config import CorpusConfig
from bort.corpus.readers import Document, documents, files_of, is_hub
from bort.corpus.store import RECORD, SCHEMA, SPLITS
from bort.corpus.tokenizer import bare_tokenizer, special_ids, tokenizer_digest
from bort.errors import BortError, ConfigurationError, RecordError
from bort.events import Observer, Quiet
from bort.files import atomic_path, digest, file_digest, read_json, write_json

#: Characters of a part: a kill loses at most one part's work, and a part's memory stays small.
PART_CHARACTERS = 4_000_000
#: Longer documents reach the tokenizer in pieces, cut after a line's end, so that one of them does not occupy one thread alone.
PIECE_CHARACTERS = 50_000
#: Documents are gathered up to so many tokens before they are cut into blocks.
PACK_TOKENS = 4_000_000
_COUNTS = ("empty_documents", "invalid_documents", "characters")


def build_corpus(
    config: CorpusConfig,
    tokenizer: Any,
    directory: Path | str,
    *,
    workers: int = 1,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Builds a corpus of blocks in ``directory``.

    Args:
        config: Where the text comes from and how it is cut.
        tokenizer: A fast tokenizer of transformers: the teacher's.
        directory: Where the corpus is written. What an interrupted call with the same settings left there is used.
        workers: Threads that tokenise; the result is the same for any number.
        observer: Hears of progress.

    Returns:
        The record, as in ``corpus.json``: ``digest``, ``documents``, ``tokens``, ``blocks``, ``splits``, ``sources`` …

    Raises:
        BortError: The text cannot be read, or there is too little of it; the message names the key and the file.
        RecordError: ``directory`` holds a corpus of other settings.
    """
    observer = observer or Quiet()
    directory = Path(directory)
    started = time.perf_counter(), time.process_time()
    config.check()
    bare, special = bare_tokenizer(tokenizer), special_ids(tokenizer)
    files = [] if is_hub(config) else files_of(config)
    plan = {
        "settings": {key: value for key, value in asdict(config).items() if key not in ("name", "path", "pattern")},
        "sources": _sources(config, files),
        "tokenizer": tokenizer_digest(tokenizer),
    }
    if (directory / RECORD).exists():
        record = read_json(directory / RECORD)
        if record.get("plan") != digest(plan):
            raise RecordError(
                f"{directory} holds a corpus of other settings, text or tokenizer; choose another folder or remove it."
            )
        return dict(record)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)
    parts = directory / "parts"
    if parts.exists() and not ((parts / "plan.json").exists() and read_json(parts / "plan.json") == plan):
        shutil.rmtree(parts)
    if not parts.exists():
        write_json(parts / "plan.json", plan)
    with _threads(workers):
        _tokenise(config, files, bare, dtype, parts, observer)
    record = {
        "schema": SCHEMA,
        "name": config.name,
        "plan": digest(plan),
        "sources": plan["sources"],
        "settings": plan["settings"],
        "tokenizer": plan["tokenizer"],
        "block_length": config.block_length,
        "vocab_size": len(tokenizer),
        "special": special,
        **_pack(config, special, dtype, parts, directory, observer),
    }
    shares = {split: record["splits"][split]["digest"] for split in SPLITS}
    record["digest"] = digest({key: record[key] for key in ("tokenizer", "block_length", "vocab_size", "special")} | shares)
    record["seconds"] = time.perf_counter() - started[0]
    record["processor_seconds"] = time.process_time() - started[1]
    write_json(directory / RECORD, record)
    shutil.rmtree(parts)
    return record


def _sources(config: CorpusConfig, files: list[Path]) -> list[dict[str, Any]]:
    if not files:
        return [{"hub": config.path, "revision": config.revision, "subset": config.subset, "split": config.split}]
    return [{"name": file.name, "bytes": file.stat().st_size, "digest": file_digest(file)} for file in files]


def _tokenise(config: CorpusConfig, files: list[Path], bare: Any, dtype: np.dtype[Any], parts: Path, observer: Observer) -> None:
    """Writes the documents' tokens into ``parts``, after those that are there already."""
    if (parts / "done.json").exists():
        return
    from safetensors.numpy import save_file

    done = _read_parts(parts)
    seen = sum(int(part["seen"][0]) for part in done)
    characters = sum(int(part["characters"][0]) for part in done)
    total = sum(file.stat().st_size for file in files)
    stream = islice(documents(config, files), seen, config.max_documents)
    for number, batch in enumerate(_batches(stream), len(done)):
        counts = dict.fromkeys(_COUNTS, 0)
        kept = [encoded for encoded in (_accept(document, config, counts) for document in batch) if encoded]
        texts = [text for text, _ in kept]
        pieces = [_pieces(text) for text in texts]
        encodings = iter(bare.encode_batch_fast(list(chain.from_iterable(pieces)), add_special_tokens=False))
        ids = [[token for piece in islice(encodings, len(group)) for token in piece.ids] for group in pieces]
        lengths = np.array([len(tokens) for tokens in ids], dtype=np.int64)
        part = {
            "tokens": np.fromiter(chain.from_iterable(ids), dtype=dtype, count=int(lengths.sum())),
            "lengths": lengths,
            "keys": np.array([_key(raw, config.seed) for _, raw in kept], dtype=np.uint64),
            "seen": np.array([len(batch)], dtype=np.int64),
            **{name: np.array([value], dtype=np.int64) for name, value in counts.items()},
        }
        with atomic_path(parts / f"{number:06d}.safetensors") as temporary:
            save_file(part, temporary)
        characters += counts["characters"]
        # Bytes on disk against characters: right for plain English text, and a fair guess of the way for the rest.
        observer.progress("tokenise", characters, max(total, characters), f"{seen + int(lengths.size)} documents")
        seen += len(batch)
    write_json(parts / "done.json", {"documents": seen})


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
    if not document.text.strip():
        counts["empty_documents"] += 1
        return None
    try:
        raw = document.text.encode("utf-8")
    except UnicodeEncodeError as error:
        if config.invalid_utf8 == "refuse":
            raise BortError(
                f"The document at {document.place} is not valid UTF-8 (its character {error.start}); "
                "mend the file, or leave such documents out with corpus.invalid_utf8=skip."
            ) from error
        counts["invalid_documents"] += 1
        return None
    counts["characters"] += len(document.text)
    return document.text, raw


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


def _read_parts(parts: Path) -> list[dict[str, NDArray[Any]]]:
    """Opens the parts that were finished, in order; a part that cannot be read is removed with those behind it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    opened: list[dict[str, NDArray[Any]]] = []
    paths = sorted(parts.glob("*.safetensors"))
    for number, path in enumerate(paths):
        try:
            opened.append(load_file(path))
        except (SafetensorError, OSError):
            for broken in paths[number:]:
                broken.unlink(missing_ok=True)
            break
    return opened


def _pack(
    config: CorpusConfig, special: dict[str, int], dtype: np.dtype[Any], parts: Path, directory: Path, observer: Observer
) -> dict[str, Any]:
    """Puts the documents into their order, cuts them into blocks and writes both splits; returns counts and digests."""
    opened = _read_parts(parts)
    lengths = np.concatenate([part["lengths"] for part in opened]) if opened else np.zeros(0, dtype=np.int64)
    keys = np.concatenate([part["keys"] for part in opened]) if opened else np.zeros(0, dtype=np.uint64)
    tokens = np.concatenate([part["tokens"] for part in opened]) if opened else np.zeros(0, dtype=dtype)
    counts = {name: int(sum(int(part[name][0]) for part in opened)) for name in _COUNTS}
    usable = np.flatnonzero(lengths)
    if not len(usable):
        raise ConfigurationError("corpus.path", config.path, "it holds no text")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    order = usable[np.argsort(keys[usable], kind="stable")]
    boundary = _boundary(config, keys[order])
    members = {"heldout": order[:boundary], "train": order[boundary:]}
    _check_space(directory, int(lengths.sum()) * dtype.itemsize)
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        chosen = members[split]
        splits[split] = _write_split(config, special, dtype, tokens, starts, chosen, directory / f"{split}.npy")
        observer.progress("pack", len(splits), len(SPLITS), f"{splits[split]['blocks']} blocks")
    for split, share in (("train", 1.0), ("heldout", config.heldout)):
        if share and not splits[split]["blocks"]:
            raise ConfigurationError(
                "corpus.block_length" if split == "train" else "corpus.heldout",
                config.block_length if split == "train" else config.heldout,
                f"the {split} documents of {config.path} have only {splits[split]['tokens']} tokens, which fill no block",
            )
    return {
        "documents": len(usable),
        "tokens": int(lengths.sum()),
        "blocks": sum(splits[split]["blocks"] for split in SPLITS),
        "unknown_tokens": int((tokens == special["unk"]).sum()) if "unk" in special else 0,
        **counts,
        "splits": splits,
    }


def _boundary(config: CorpusConfig, keys: NDArray[np.uint64]) -> int:
    """Returns how many documents, in their order, are held out: equal documents are never parted."""
    if not config.heldout:
        return 0
    boundary = max(1, round(config.heldout * len(keys)))
    while boundary < len(keys) and keys[boundary] == keys[boundary - 1]:
        boundary += 1
    if boundary >= len(keys):
        raise ConfigurationError(
            "corpus.heldout",
            config.heldout,
            f"the {len(keys)} document(s) of {config.path} cannot be split; tell them apart with corpus.document, or use 0",
        )
    return boundary


def _write_split(
    config: CorpusConfig,
    special: dict[str, int],
    dtype: np.dtype[Any],
    tokens: NDArray[Any],
    starts: NDArray[np.int64],
    chosen: NDArray[np.int64],
    path: Path,
) -> dict[str, Any]:
    inner = config.block_length - 2
    count = int((starts[chosen + 1] - starts[chosen]).sum())
    # A separator stands between two documents, as in RoBERTa's FULL-SENTENCES (Liu et al. 2019, section 4.2).
    blocks, dropped = divmod(count + max(0, len(chosen) - 1), inner)
    separator = np.array([special["sep"]], dtype=dtype)
    with atomic_path(path) as temporary:
        array = (
            np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=(blocks, config.block_length)) if blocks else None
        )
        if array is None:
            np.save(temporary, np.zeros((0, config.block_length), dtype=dtype), allow_pickle=False)
        else:
            array[:, 0], array[:, -1] = special["cls"], special["sep"]
            row, pending, gathered = 0, [], 0
            for place, document in enumerate(chosen):
                pending += [tokens[starts[document] : starts[document + 1]], separator]
                gathered += len(pending[-2]) + 1
                if gathered >= PACK_TOKENS or place == len(chosen) - 1:
                    run = np.concatenate(pending)
                    rows = min(len(run) // inner, blocks - row)
                    array[row : row + rows, 1:-1] = run[: rows * inner].reshape(rows, inner)
                    row, pending = row + rows, [run[rows * inner :]]
                    gathered = len(pending[0])
            array.flush()
            del array
    return {"documents": len(chosen), "tokens": count, "blocks": blocks, "dropped_tokens": dropped, "digest": file_digest(path)}


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise BortError(
            f"The corpus needs {needed / 1e9:.1f} GB at {directory}, where {free / 1e9:.1f} GB are free; make room there."
        )


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """Sets how many threads the tokenizer uses: the library reads these two variables, the second when it first runs."""
    wanted = {"TOKENIZERS_PARALLELISM": "true" if workers > 1 else "false", "RAYON_NUM_THREADS": str(max(1, workers))}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
