"""Masks for masked-language-model training: a fixed number of positions a block, a function of (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bort.corpus.config import MaskingConfig
from bort.corpus.tokenizer import CONTINUED, CONTINUES
from bort.errors import ConfigurationError
from bort.randomness import below, draws, stream_keys, uniform

Integers = NDArray[np.int64]
#: Added to a position's rank, which is below 2⁶²: for tokens that are taken last, and for tokens that are never taken.
_LAST, _NEVER = np.uint64(1 << 62), np.uint64(3 << 62)


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
    words: NDArray[np.uint8] | None = None,
) -> Masked:
    """Masks a batch of blocks.

    Exactly K = round(p·(S − 2)) positions of every block are chosen, so that shapes are static. Of the chosen, 80 % become the mask
    token, 10 % a random ordinary token and 10 % stay, each decided for itself, as in BERT (Devlin et al. 2019, section 3.1).
    Special tokens are never chosen; the unknown token only where a block has too few others. With ``whole_words`` the words of a
    block are taken in random order, each with all its tokens, until K are reached; the last word is cut where it would exceed K.

    Args:
        blocks: Rows of the corpus, [B, S], as ``corpus.train[indices]`` gives them.
        indices: The rows' numbers, [B].
        epoch: The epoch of all rows, or of each, [B].
        config: The shares and the seed.
        special: Ids of the special tokens; ``mask`` is needed.
        vocab_size: Number of tokens that random replacements are drawn from.
        words: For whole words, how each token of the vocabulary joins its neighbours, [vocab_size]: ``corpus.words``.

    Returns:
        The masked batch; the same for a row whatever batch it comes in.

    Raises:
        ConfigurationError: A block holds too few ordinary tokens for K masks, or whole words are asked for without ``words``.
    """
    blocks = np.asarray(blocks, dtype=np.int64)
    rows, length = blocks.shape
    count = config.positions(length)
    ordinary, handicaps = _vocabulary(vocab_size, tuple(sorted(special.items())))
    # Values 0 … S−1 of a block's stream choose positions, the next K their fate, the last K the random tokens.
    drawn = draws(stream_keys(config.seed, epoch, indices), 0, length + 2 * count)
    rank = drawn[:, :length] >> np.uint64(2)
    if config.whole_words:
        rank = np.take_along_axis(rank, _first_of_word(blocks, words), axis=1)
    rank += handicaps[blocks]
    if rows and int(np.count_nonzero(rank < _NEVER, axis=1).min()) < count:
        raise ConfigurationError(
            "masking.probability", config.probability, f"smaller, as a block has fewer than {count} tokens to mask"
        )
    # The tokens of a word are equal in rank, and a stable order keeps them together; otherwise any partition will do.
    nearest = np.argsort(rank, axis=1, kind="stable") if config.whole_words else np.argpartition(rank, count - 1, axis=1)
    positions = nearest[:, :count]
    positions.sort(axis=1)
    places = positions + np.arange(rows)[:, None] * length
    labels = blocks.ravel()[places]
    fate = uniform(drawn[:, length : length + count])
    replacements = ordinary[below(drawn[:, length + count :], len(ordinary))]
    tokens = np.where(fate < config.random, replacements, special["mask"])
    tokens = np.where(fate >= 1.0 - config.keep, labels, tokens)
    input_ids = blocks.copy()
    input_ids.ravel()[places] = tokens
    return Masked(input_ids, positions, labels)


def _first_of_word(blocks: Integers, words: NDArray[np.uint8] | None) -> NDArray[np.intp]:
    """Returns for every position that of the first token of its word, [B, S]."""
    if words is None:
        raise ConfigurationError(
            "masking.whole_words", True, "false, unless the corpus is built again: it does not record the starts of words"
        )
    marks = words[blocks]
    begins = np.ones(blocks.shape, dtype=bool)
    begins[:, 1:] = (marks[:, 1:] & CONTINUES == 0) | (marks[:, :-1] & CONTINUED == 0)
    return np.maximum.accumulate(np.where(begins, np.arange(blocks.shape[1]), 0), axis=1)


@lru_cache(maxsize=4)
def _vocabulary(vocab_size: int, special: tuple[tuple[str, int], ...]) -> tuple[Integers, NDArray[np.uint64]]:
    """Returns the tokens that may stand in for a masked one, and what is added to the rank of each token of the vocabulary."""
    handicaps = np.zeros(max(vocab_size, *(token + 1 for _, token in special)), dtype=np.uint64)
    for name, token in special:
        handicaps[token] = _LAST if name == "unk" else _NEVER
    return np.flatnonzero(handicaps[:vocab_size] == 0).astype(np.int64), handicaps
