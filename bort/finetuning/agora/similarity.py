"""Which texts are near-duplicates of one another."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words of a text: case, punctuation, spacing and Unicode form do not count."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles(texts: Sequence[str]) -> frozenset[tuple[object, ...]]:
    """Return the words and the pairs of neighbouring words of an example, each with the number of its text.

    Words alone would not see their order; pairs alone would take one changed word for two changes of three.
    """
    found: set[tuple[object, ...]] = set()
    for place, text in enumerate(texts):
        parts = words(text) or [text.strip()]
        found.update((place, word) for word in parts)
        found.update((place, *pair) for pair in pairwise(parts))
    return frozenset(found)


def overlap(one: frozenset[tuple[object, ...]], other: frozenset[tuple[object, ...]]) -> float:
    """Return the Jaccard index of two sets of shingles: 0 with nothing in common, 1 for the same; see :func:`shingles`."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0


class Neighbourhood:
    """Examples to compare others with.

    Args:
        texts: The texts of each example.
    """

    def __init__(self, texts: Iterable[Sequence[str]] = ()) -> None:
        self._sizes: list[int] = []
        self._holders: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for one in texts:
            self.add(one)

    def add(self, texts: Sequence[str]) -> None:
        """Take one more example in."""
        marks = shingles(texts)
        for mark in marks:
            self._holders[mark].append(len(self._sizes))
        self._sizes.append(len(marks))

    def nearest(self, texts: Sequence[str]) -> float:
        """Return the largest :func:`overlap` with any example, 0 where there is none."""
        marks = shingles(texts)
        shared = Counter(number for mark in marks for number in self._holders.get(mark, ()))
        return max((count / (self._sizes[number] + len(marks) - count) for number, count in shared.items()), default=0.0)
