"""Points: generated, labeled and sifted examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.finetuning.agora.similarity import Neighbourhood, overlap, shingles
from bort.tasks.split import text_key
from bort.tasks.task import Example, Task

#: How much more frequent than wanted a class may be among points: to the last point would cost too many of them.
_SLACK = 1.25


@dataclass(frozen=True)
class Point:
    """A made example.

    Args:
        texts: Its one or two texts.
        target: Probability of each class.
        source: Identity of the example it was made from.
        generator: What made it.
    """

    texts: tuple[str, ...]
    target: tuple[float, ...]
    source: str
    generator: str

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"texts": list(self.texts), "target": list(self.target), "source": self.source, "generator": self.generator}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Point:
        """Return the point of a record."""
        return cls(tuple(record["texts"]), tuple(record["target"]), record["source"], record["generator"])


@dataclass(frozen=True)
class Draft:
    """A point without its label."""

    texts: tuple[str, ...]
    source: Example
    generator: str


@dataclass
class Sieve:
    """Keep what is neither too similar to what there is nor too distinct from what it was made of, and counts the rest.

    It remembers what it kept: a later point is compared with the earlier ones as well.

    Args:
        task: Its train and steering examples are compared with; its held-out ones are never read.
        similarity: From this overlap on two examples are near-duplicates, in (0, 1].
        distinct: Below this overlap a point has nothing to do with its source, in [0, 1).
    """

    task: Task
    similarity: float
    distinct: float
    _exact: dict[str, str] = field(init=False)
    _near: dict[str, Neighbourhood] = field(init=False)

    def __post_init__(self) -> None:
        # Steering last: what stands in both counts as steering.
        self._exact = {text_key(one): split for split in ("train", "steering") for one in getattr(self.task, split)}
        self._near = {split: Neighbourhood(one.texts for one in getattr(self.task, split)) for split in ("steering", "train")}
        self._near["points"] = Neighbourhood()

    def screen(self, drafts: Iterable[Draft], wanted: int) -> tuple[list[Draft], Counter[str]]:
        """Return the first ``wanted`` drafts that are good, and how many before the last of them were dropped for each reason.

        Drafts are compared with each other, too, but remembered only once they are points: see :meth:`take`.
        """
        kept: list[Draft] = []
        dropped: Counter[str] = Counter()
        exact, near = dict(self._exact), {**self._near, "drafts": Neighbourhood()}
        for draft in drafts:
            if len(kept) == wanted:
                break
            reason = self._reason(draft, exact, near)
            if reason:
                dropped[reason] += 1
                continue
            kept.append(draft)
            exact[_key(draft.texts)] = "drafts"
            near["drafts"].add(draft.texts)
        return kept, dropped

    def take(self, points: Sequence[Point]) -> None:
        """Remember points that were kept."""
        for point in points:
            self._exact[_key(point.texts)] = "points"
            self._near["points"].add(point.texts)

    def _reason(self, draft: Draft, exact: Mapping[str, str], near: Mapping[str, Neighbourhood]) -> str:
        if not all(text.strip() for text in draft.texts):
            return "empty"
        known = exact.get(_key(draft.texts))
        if known:
            return f"same as {known}"
        for name, neighbourhood in near.items():
            if neighbourhood.nearest(draft.texts) >= self.similarity:
                return f"near {name}"
        if overlap(shingles(draft.texts), shingles(draft.source.texts)) < self.distinct:
            return "too distinct"
        return ""


def _key(texts: tuple[str, ...]) -> str:
    return text_key(Example("", texts, 0.0))


def label(
    drafts: Sequence[Draft],
    probabilities: NDArray[np.float64],
    *,
    hard: bool,
    confidence: float,
    shares: NDArray[np.float64] | None,
) -> tuple[list[Point], Counter[str]]:
    """Label drafts and drop those that are uncertain or would make a class too frequent.

    Args:
        drafts: N drafts.
        probabilities: Of each class, [N, C].
        hard: Whether the most likely class alone becomes the target.
        confidence: The least probability of it, in [0, 1].
        shares: Wanted share of each class, [C]. No class may have more than 1.25 times as many points, by its share, as the one
            that has, by its share, the fewest; classes without points or a share do not count. All are kept if ``None``.

    Returns:
        The points, and how many were dropped for each reason.
    """
    dropped: Counter[str] = Counter()
    classes = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1) >= confidence
    dropped["unsure"] = int((~sure).sum())
    found = Counter(int(one) for one in classes[sure])
    wanted = np.ones(probabilities.shape[1]) if shares is None else shares
    by_share = [count / wanted[one] for one, count in found.items() if wanted[one] > 0]
    # With one class alone there is nothing to balance.
    limited = shares is not None and len(by_share) > 1
    most = np.ceil(_SLACK * wanted * min(by_share)) if limited else np.full(len(wanted), len(drafts))
    taken: Counter[int] = Counter()
    points = []
    for draft, row, one, good in zip(drafts, probabilities, classes, sure, strict=True):
        if not good:
            continue
        taken[int(one)] += 1
        if taken[int(one)] > most[one]:
            dropped["unbalanced"] += 1
            continue
        target = tuple(float(place == one) for place in range(len(row))) if hard else tuple(float(value) for value in row)
        points.append(Point(draft.texts, target, draft.source.identity, draft.generator))
    return points, +dropped
