"""Near-duplicate documents by MinHash and locality-sensitive hashing, in numpy, with memory bounded by the number of documents.

Documents are compared as sets of shingles, that is, of runs of words in lower case without ASCII punctuation. The share of equal
minima under random hash functions estimates the Jaccard similarity of two sets (Broder, "On the resemblance and containment of
documents", 1997); documents become candidates when all minima of a band agree (Leskovec, Rajaraman and Ullman, "Mining of Massive
Datasets", section 3.4). Whatever is linked by similar pairs counts as one, and the first of it is kept, as in Lee et al. 2022
("Deduplicating training data makes language models better").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bort.randomness import draws, mix, stream_keys

#: Minima of a signature: the estimate of a similarity of 0.8 has a standard error of 0.035.
MINIMA = 128
#: The least chance that two documents of just the wanted similarity become candidates.
_RECALL = 0.95
#: Bytes that the keys of bands may take at once.
BAND_BYTES = 1 << 30
#: Bytes of text whose shingles are computed at once.
_TEXT_BYTES = 1 << 18
_PAIRS = 50_000

# Lower case for ASCII letters, a space for ASCII punctuation and white space; other bytes stand for themselves.
_NORMAL = bytes(
    byte + 32 if 65 <= byte <= 90 else byte if byte >= 128 or 97 <= byte <= 122 or 48 <= byte <= 57 else 32 for byte in range(256)
)
_POWERS = np.cumprod(np.full(256, 0x9E3779B97F4A7C15, dtype=np.uint64))
_PLACES = mix(np.arange(1, 21, dtype=np.uint64))
# The second and third constants of each hash function a·x + b, with odd factors.
_FACTORS = draws(stream_keys(0x6D696E68617368), 0, MINIMA)[0] | np.uint64(1)
_OFFSETS = draws(stream_keys(0x6D696E68617368), MINIMA, MINIMA)[0]

Signatures = NDArray[np.uint32]


def signatures(texts: Sequence[bytes], words: int) -> Signatures:
    """Returns the signature of each text, [N, :data:`MINIMA`]; all ones in binary for a text without words.

    Args:
        texts: The documents, as UTF-8.
        words: Words of a shingle, from 1 to 20; a text of fewer words is one shingle.
    """
    found = np.full((len(texts), MINIMA), np.iinfo(np.uint32).max, dtype=np.uint32)
    first, size = 0, 0
    for last, text in enumerate(texts, 1):
        size += len(text)
        if size >= _TEXT_BYTES or last == len(texts):
            hashes, owners = _shingles(texts[first:last], words)
            if len(hashes):
                starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
                rows = first + owners[starts]
                for place in range(MINIMA):
                    values = hashes * _FACTORS[place]
                    values += _OFFSETS[place]
                    found[rows, place] = np.minimum.reduceat(values, starts) >> np.uint64(32)
            first, size = last, 0
    return found


def near_duplicates(
    count: int, read: Callable[[NDArray[np.int64]], Signatures], threshold: float, band_bytes: int = BAND_BYTES
) -> NDArray[np.bool_]:
    """Returns which documents repeat an earlier one, [count].

    Args:
        count: How many documents there are; earlier ones are preferred.
        read: Returns the signatures of the documents of given numbers.
        threshold: The similarity from which documents count as one.
        band_bytes: Bytes that the keys of bands may take at once; fewer mean more passes over the signatures, not another result.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if count < 2:
        return np.zeros(count, dtype=bool)
    bands, rows = _bands(threshold)
    at_once = max(1, min(bands, band_bytes // (8 * count)))
    empty = np.zeros(count, dtype=bool)
    links = [np.zeros((0, 2), dtype=np.int64)]
    for first in range(0, bands, at_once):
        keys = np.empty((min(at_once, bands - first), count), dtype=np.uint64)
        for start in range(0, count, _PAIRS):
            chosen = np.arange(start, min(start + _PAIRS, count))
            minima = read(chosen)
            empty[chosen] = (minima == np.iinfo(np.uint32).max).all(axis=1)
            for place in range(len(keys)):
                keys[place, chosen] = _band_key(minima, first + place, rows)
        links += [_similar(_candidates(key, empty), read, threshold) for key in keys]
    pairs = np.concatenate(links)
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    kept = np.zeros(count, dtype=bool)
    kept[np.unique(component, return_index=True)[1]] = True
    return ~kept


def _bands(threshold: float) -> tuple[int, int]:
    """Returns the bands and their rows: the longest bands that find pairs of the wanted similarity well enough."""
    for rows in range(MINIMA, 0, -1):
        bands = MINIMA // rows
        if 1.0 - (1.0 - threshold**rows) ** bands >= _RECALL:
            return bands, rows
    return MINIMA, 1


def _band_key(minima: Signatures, band: int, rows: int) -> NDArray[np.uint64]:
    key = np.full(len(minima), band, dtype=np.uint64)
    for column in range(band * rows, (band + 1) * rows):
        key = mix(key ^ minima[:, column])
    return key


def _candidates(keys: NDArray[np.uint64], empty: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns pairs of documents with equal keys, [P, 2]: each with the first of its kind and with the one before it."""
    order = np.argsort(keys, kind="stable")
    order = order[~empty[order]]
    same = keys[order[1:]] == keys[order[:-1]]
    begins = np.maximum.accumulate(np.where(np.r_[True, ~same], np.arange(len(order)), 0)) if len(order) else order
    members = np.flatnonzero(np.r_[False, same]) if len(order) else order
    pairs = np.stack([np.r_[order[begins[members]], order[members - 1]], np.r_[order[members], order[members]]], axis=1)
    return np.unique(pairs, axis=0)


def _similar(pairs: NDArray[np.int64], read: Callable[[NDArray[np.int64]], Signatures], threshold: float) -> NDArray[np.int64]:
    found = [pairs[:0]]
    for start in range(0, len(pairs), _PAIRS):
        chosen = pairs[start : start + _PAIRS]
        found.append(chosen[(read(chosen[:, 0]) == read(chosen[:, 1])).mean(axis=1) >= threshold])
    return np.concatenate(found)


def _shingles(texts: Sequence[bytes], words: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Returns the hashes of all shingles, and for each the number of its text."""
    normal = [text.translate(_NORMAL) for text in texts]
    content = np.frombuffer(b" ".join(normal) + b" ", dtype=np.uint8)
    ends = np.cumsum([len(text) + 1 for text in normal])
    inside = content != 32
    starts = np.flatnonzero(inside & ~np.r_[False, inside[:-1]])
    if not len(starts):
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    begun = np.zeros(len(content), dtype=np.int64)
    begun[starts] = starts
    place = np.arange(len(content)) - np.maximum.accumulate(begun)
    weighted = content * _POWERS[place & 255]
    weighted[~inside] = 0
    word = mix(np.add.reduceat(weighted, starts))
    owner = np.searchsorted(ends, starts, side="right")
    total = np.zeros(len(word), dtype=np.uint64)
    for step in range(min(words, len(word))):
        same = owner[step:] == owner[: len(word) - step]
        total[: len(word) - step] += np.where(same, word[step:] * _PLACES[step], np.uint64(0))
    whole = np.zeros(len(word), dtype=bool)
    whole[: max(0, len(word) - words + 1)] = owner[words - 1 :] == owner[: max(0, len(word) - words + 1)]
    # The only shingle of a text of fewer words begins with its first.
    begins = np.r_[True, owner[1:] != owner[:-1]]
    chosen = whole | (begins & ~whole)
    return mix(total[chosen]), owner[chosen]
