"""Tokenised documents to blocks: the order of documents, the split, and the writing of full blocks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.corpus.config import CorpusConfig
from bort.corpus.dataset import SPLITS
from bort.corpus.duplicates import near_duplicates
from bort.corpus.shards import Parts
from bort.errors import BortError, ConfigurationError
from bort.files import atomic_path, file_digest
from bort.observer import Observer

#: Documents are gathered up to so many tokens before they are cut into blocks.
PACK_TOKENS = 4_000_000


def pack(
    config: CorpusConfig, special: dict[str, int], dtype: np.dtype[Any], parts: Parts, directory: Path, observer: Observer
) -> dict[str, Any]:
    """Puts the documents into their order, cuts them into blocks and writes both splits.

    Documents stand in the order of a digest of their text and the seed, so that blocks do not depend on the names or the order of
    files, any first blocks are a fair sample, and equal documents stand next to each other. The first share is held out.

    Args:
        config: The held-out share and the block length.
        special: Ids of the special tokens.
        dtype: The type of stored tokens.
        parts: The tokenised documents.
        directory: Where ``train.npy`` and ``heldout.npy`` are written.
        observer: Hears of progress.

    Returns:
        ``documents``, ``tokens``, ``blocks``, ``dropped_tokens`` and ``digests`` of each split, documents and tokens ``by_source``,
        and counts of what was left out, by step under ``cleaning``.

    Raises:
        ConfigurationError: There is too little text for a block of each split.
    """
    usable = np.flatnonzero(parts.lengths)
    if not len(usable):
        raise ConfigurationError(*_nothing(config, parts))
    order, removed = _without_duplicates(config, parts, usable[np.argsort(parts.keys[usable], kind="stable")])
    boundary = _boundary(config, parts.keys[order])
    members = {"train": order[boundary:], "heldout": order[:boundary]}
    inner = config.block_length - 2
    tokens, blocks, dropped = {}, {}, {}
    for split, chosen in members.items():
        tokens[split] = int(parts.lengths[chosen].sum())
        # A separator stands between two documents, as in RoBERTa's FULL-SENTENCES (Liu et al. 2019, section 4.2).
        blocks[split], dropped[split] = divmod(tokens[split] + max(0, len(chosen) - 1), inner)
        if not blocks[split] and (split == "train" or config.heldout):
            key, value = ("block_length", config.block_length) if split == "train" else ("heldout", config.heldout)
            smaller = "smaller" if split == "train" else "larger, or 0"
            reason = f"the {split} documents have only {tokens[split]} tokens, which fill no block"
            raise ConfigurationError(f"corpus.{key}", value, f"{smaller}: {reason} of {config.block_length}")
    _check_space(directory, sum(blocks.values()) * config.block_length * dtype.itemsize)
    digests = {}
    for number, split in enumerate(SPLITS, 1):
        path = directory / f"{split}.npy"
        _write_split(parts, members[split], blocks[split], config.block_length, special, dtype, path)
        digests[split] = file_digest(path)
        observer.progress("pack", number, len(SPLITS), f"{blocks[split]} blocks")
    return {
        "documents": {split: len(members[split]) for split in SPLITS},
        "tokens": tokens,
        "blocks": blocks,
        "dropped_tokens": dropped,
        "digests": digests,
        "unknown_tokens": parts.count_token(special["unk"]) if "unk" in special else 0,
        **{name: parts.counts[name] for name in ("empty_documents", "invalid_documents", "characters")},
        "by_source": _by_source(config, parts, members),
        "cleaning": _cleaning(config, parts, removed),
    }


def _without_duplicates(
    config: CorpusConfig, parts: Parts, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """Returns the documents that are kept, and those that each step removes."""
    removed: dict[str, NDArray[np.int64]] = {}
    if config.cleaning.duplicates:
        repeated = np.r_[False, parts.keys[order[1:]] == parts.keys[order[:-1]]]
        removed["duplicates"], order = order[repeated], order[~repeated]
    if config.cleaning.near_duplicates is not None:
        standing = order
        repeated = near_duplicates(len(order), lambda chosen: parts.signatures[standing[chosen]], config.cleaning.near_duplicates)
        removed["near_duplicates"], order = order[repeated], order[~repeated]
    return order, removed


def _cleaning(config: CorpusConfig, parts: Parts, removed: dict[str, NDArray[np.int64]]) -> dict[str, dict[str, int]]:
    """Returns for each step that was asked for how many documents it changed or removed, and how much of them."""
    steps = {
        "tables": config.cleaning.tables,
        "markup": any(source.markup for _, source in config.all_sources()),
        "short": config.cleaning.min_words > 0,
        "language": config.cleaning.language is not None,
    }
    counted = {
        name: {what: parts.counts[f"{name}_{what}"] for what in ("documents", "characters")}
        for name, wanted in steps.items()
        if wanted
    }
    for name, chosen in removed.items():
        counted[name] = {"documents": len(chosen), "tokens": int(parts.lengths[chosen].sum())}
    return counted


def _by_source(config: CorpusConfig, parts: Parts, members: dict[str, NDArray[np.int64]]) -> list[dict[str, Any]]:
    chosen = np.concatenate(list(members.values()))
    sources = config.all_sources()
    documents = np.bincount(parts.sources[chosen], minlength=len(sources))
    tokens = np.bincount(parts.sources[chosen], weights=parts.lengths[chosen], minlength=len(sources))
    return [
        {"name": source.name, "documents": int(documents[place]), "tokens": int(tokens[place])}
        for place, (_, source) in enumerate(sources)
    ]


def _nothing(config: CorpusConfig, parts: Parts) -> tuple[str, object, str]:
    """Return key, value and condition for a corpus without documents."""
    left_out = {
        "corpus.cleaning.language": ("language", config.cleaning.language),
        "corpus.cleaning.min_words": ("short", config.cleaning.min_words),
        "corpus.invalid_utf8": ("invalid", config.invalid_utf8),
    }
    for key, (step, value) in left_out.items():
        if parts.counts[f"{step}_documents"]:
            return key, value, f"a value that leaves any of the {parts.seen} documents"
    return "corpus.path", config.where, "a source of text, and this one has none"


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
            f"0, as the {len(keys)} document(s) cannot be split; corpus.document separates them",
        )
    return boundary


def _write_split(
    parts: Parts,
    chosen: NDArray[np.int64],
    blocks: int,
    length: int,
    special: dict[str, int],
    dtype: np.dtype[Any],
    path: Path,
) -> None:
    with atomic_path(path) as temporary:
        if not blocks:
            np.save(temporary, np.zeros((0, length), dtype=dtype), allow_pickle=False)
            return
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=(blocks, length))
        # A full disk ends a process that writes to memory without a block behind it, and says nothing.
        with temporary.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        array[:, 0], array[:, -1] = special["cls"], special["sep"]
        separator = np.array([special["sep"]], dtype=dtype)
        row, gathered = 0, 0
        pending: list[NDArray[Any]] = []
        tokens = parts.tokens
        spans = zip(parts.starts[chosen].tolist(), parts.lengths[chosen].tolist(), strict=True)
        for place, (start, size) in enumerate(spans, 1):
            pending += [tokens[start : start + size], separator]
            gathered += size + 1
            if gathered >= PACK_TOKENS or place == len(chosen):
                run = np.concatenate(pending)
                rows = min(len(run) // (length - 2), blocks - row)
                array[row : row + rows, 1:-1] = run[: rows * (length - 2)].reshape(rows, length - 2)
                row, pending = row + rows, [run[rows * (length - 2) :]]
                gathered = len(pending[0])
        array.flush()


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise BortError(
            f"The corpus needs {needed / 1e9:.1f} GB at {directory}, where {free / 1e9:.1f} GB are free; make room there."
        )
