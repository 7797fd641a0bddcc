"""How the text of an answer is compared with the right ones: as SQuAD and ReCoRD do it."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Returns an answer in lower case, without ASCII punctuation, English articles and superfluous spaces (Rajpurkar 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def answer_f1(prediction: str, answers: Iterable[str]) -> float:
    """Returns the F1 of the normalised words of an answer, against the right answer that suits it best; 0 where there is none.

    Two answers of which nothing is left agree, and one of which nothing is left agrees with no other.
    """
    return max((_f1(normalise(prediction).split(), normalise(answer).split()) for answer in answers), default=0.0)


def answer_exact(prediction: str, answers: Iterable[str]) -> float:
    """Returns 1 where the normalised answer is one of the right ones, else 0."""
    return float(any(normalise(prediction) == normalise(answer) for answer in answers))


def _f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))
