"""Masks for masked-language-model training: a fixed number of positions a block, a function of (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bort.corpus.config import MaskingConfig
from bort.corpus.counters import below, draws, stream_keys, uniform
from bort.errors import ConfigurationError

__all__ = ["Masked", "MaskingConfig", "mask_blocks"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Masked:
    """A masked batch.

    Args:
        input_ids: The blocks with their masks, int64 [B, S].
        positions: The masked positions in rising order, int64 [B, K].
        labels: The tokens that stood there, int64 [B, K].
    """

    input_ids: Integers
    positions: Integers
    labels: Integers


def mask_blocks(
    blocks: Integers,
    indices: Integers,
    epoch: int | Integers,
    config: MaskingConfig,
    special: Mapping[str, int],
    vocab_size: int,
) -> Masked:
    """Masks a batch of blocks.

    Exactly K = round(p·(S − 2)) positions of every block are chosen, so that shapes are static. Of the chosen, 80 % become the mask
    token, 10 % a random ordinary token and 10 % stay, each decided for itself, as in BERT (Devlin et al. 2019, section 3.1).
    Special tokens are never chosen; the unknown token only where a block has too few others.

    Args:
        blocks: Rows of the corpus, [B, S], as ``corpus.train[indices]`` gives them.
        indices: The rows' numbers, [B].
        epoch: The epoch of all rows, or of each, [B].
        config: The shares and the seed.
        special: Ids of the special tokens; ``mask`` is needed.
        vocab_size: Number of tokens that random replacements are drawn from.

    Returns:
        The masked batch; the same for a row whatever batch it comes in.

    Raises:
        ConfigurationError: A block holds too few ordinary tokens for K masks.
    """
    blocks = np.asarray(blocks, dtype=np.int64)
    length = blocks.shape[1]
    count = config.positions(length)
    keys = stream_keys(config.seed, epoch, indices)
    # Values 0 … S−1 of a block's stream choose positions, the next K their fate, the last K the random tokens.
    rank = draws(keys, 0, length) >> np.uint64(2)
    unknown = special.get("unk", -1)
    never = np.fromiter((token for name, token in special.items() if name != "unk"), dtype=np.int64)
    rank[blocks == unknown] += np.uint64(1 << 62)
    forbidden = np.isin(blocks, never, kind="table")
    rank[forbidden] = np.uint64(np.iinfo(np.uint64).max)
    if int((~forbidden).sum(axis=1).min(initial=length)) < count:
        raise ConfigurationError(
            "masking.probability", config.probability, f"a block has fewer than {count} tokens to mask: choose a smaller share"
        )
    positions = np.sort(np.argpartition(rank, count - 1, axis=1)[:, :count], axis=1)
    labels = np.take_along_axis(blocks, positions, axis=1)
    fate = uniform(draws(keys, length, count))
    ordinary = _ordinary(vocab_size, tuple(sorted(special.values())))
    replacements = ordinary[below(draws(keys, length + count, count), len(ordinary))]
    tokens = np.where(fate < config.random, replacements, special["mask"])
    tokens = np.where(fate >= 1.0 - config.keep, labels, tokens)
    input_ids = blocks.copy()
    np.put_along_axis(input_ids, positions, tokens, axis=1)
    return Masked(input_ids, positions, labels)


@lru_cache(maxsize=4)
def _ordinary(vocab_size: int, special: tuple[int, ...]) -> Integers:
    """Returns the tokens that may stand in for a masked one: all but the special ones."""
    return np.setdiff1d(np.arange(vocab_size, dtype=np.int64), np.array(special, dtype=np.int64))
