"""Lengths of the requests that a server answers together, as they are in real texts."""

from __future__ import annotations

import numpy as np

from bort.measure.config import MIXES

#: The least, every twentieth and the greatest of the lengths in tokens of an uncased WordPiece vocabulary of 30,522, special tokens
#: included: film reviews of one sentence (Rotten Tomatoes, 8,530 of them), pairs of sentences (MRPC, 3,576), paragraphs of
#: Wikipedia (WikiText-2, 1,841, cut at 512).
_QUANTILES = {
    "sentences": (3, 10, 13, 15, 17, 19, 21, 22, 24, 25, 27, 28, 29, 31, 33, 35, 37, 40, 43, 47, 78),
    "pairs": (19, 32, 36, 39, 41, 44, 45, 47, 50, 51, 53, 55, 57, 59, 61, 63, 65, 67, 70, 74, 103),
    "paragraphs": (3, 12, 24, 42, 58, 71, 86, 99, 109, 121, 133, 144, 155, 167, 182, 199, 213, 235, 261, 300, 512),
}


def draw_lengths(mix: str, count: int, seed: int) -> list[int]:
    """Returns ``count`` lengths in tokens, drawn from a mix.

    Args:
        mix: ``sentences``, ``pairs`` or ``paragraphs``.
        count: How many.
        seed: Of the draw.
    """
    quantiles = _QUANTILES[mix]
    places = np.random.Generator(np.random.Philox(key=[seed, MIXES.index(mix)])).random(count)
    return [round(float(length)) for length in np.interp(places, np.linspace(0, 1, len(quantiles)), quantiles)]
