"""What a masked LM has to beat: answers that look at no other token than the one in place."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bort.corpus import Corpus, MaskingConfig

_CHUNK = 4096


def token_counts(corpus: Corpus, size: int) -> NDArray[np.float64]:
    """Returns how often each of ``size`` tokens stands in the train blocks, special tokens left out."""
    counts = np.zeros(size)
    for start in range(0, len(corpus.train), _CHUNK):
        counts += np.bincount(corpus.train[slice(start, start + _CHUNK)].ravel(), minlength=size)
    counts[[token for name, token in corpus.special.items() if name != "unk"]] = 0
    return counts


class Baselines:
    """Accuracy and cross-entropy of two answers that need no context, over masked positions.

    ``unigram`` always gives the train blocks' frequencies (with one added to each count) and answers the most frequent token.
    ``copy`` answers the token that stands at the position, and the most frequent one where that is the mask token. Its
    probabilities are the best that can be had from the position alone: where token x stands, by Bayes' rule from the shares of
    ``masking``, x was kept with weight f(x)·(keep + random/V), and any other y replaced by x with weight f(y)·random/V.

    Args:
        counts: How often each token stands in the train blocks, [V].
        masking: The shares of kept and of random tokens.
        special: Ids of the special tokens.
    """

    def __init__(self, counts: NDArray[np.float64], masking: MaskingConfig, special: Mapping[str, int]) -> None:
        self._frequencies = (counts + 1.0) / (counts + 1.0).sum()
        self._most_frequent = int(counts.argmax())
        self._mask = special["mask"]
        self._replaced = masking.random / (len(counts) - len(special))
        self._keep = masking.keep
        self._total = 0
        self._right = {"unigram": 0, "copy": 0}
        self._nats = {"unigram": 0.0, "copy": 0.0}

    def add(self, shown: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Counts the answers where ``shown`` stands and ``labels`` stood, both [B, K]."""
        frequencies = self._frequencies[labels]
        copied = np.where(shown == self._mask, self._most_frequent, shown)
        kept = self._frequencies[shown] * self._keep
        weight = frequencies * (self._replaced + self._keep * (shown == labels))
        with np.errstate(divide="ignore", invalid="ignore"):
            informed = np.where(shown == self._mask, frequencies, weight / (self._replaced + kept))
        self._total += labels.size
        for name, answer, probability in (
            ("unigram", np.full_like(labels, self._most_frequent), frequencies),
            ("copy", copied, informed),
        ):
            self._right[name] += int((answer == labels).sum())
            self._nats[name] -= float(np.log(probability).sum())

    def figures(self) -> dict[str, dict[str, float]]:
        """Returns accuracy and cross-entropy (nats a position) of each baseline."""
        total = self._total
        return {
            name: {
                "accuracy": self._right[name] / total if total else math.nan,
                "cross_entropy": self._nats[name] / total if total else math.nan,
            }
            for name in self._right
        }
