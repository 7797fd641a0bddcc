"""Sentences of a corpus that are near an example: points that somebody wrote (SentAugment: Du et al. 2021, arXiv 2010.02194)."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bort.observer import Observer, Quiet
from bort.randomness import named_generator, named_rank
from bort.tasks.task import Example

if TYPE_CHECKING:
    from bort.finetuning.agora.encoder import Encoder

_END = re.compile(r"(?<=[.!?])\s+")
#: Words of a sentence that is taken: shorter ones are mostly headings, longer ones mostly tables.
_LEAST, _MOST = 5, 40
#: So many times more sentences are read than are kept, so that a large corpus is not read to its end.
_READ = 20
_NEAREST = 12
_AT_ONCE = 500


def sample_sentences(documents: Iterable[str], count: int) -> list[str]:
    """Return ``count`` sentences of a corpus: of the first twenty times as many, those with the least hash.

    Args:
        documents: Texts, in the corpus's order.
        count: Sentences to keep; fewer come back where there are not so many different ones.
    """
    found = set[str]()
    for sentence in _sentences(documents):
        found.add(sentence)
        if len(found) == _READ * count:
            break
    return heapq.nsmallest(count, found, key=named_rank)


def _sentences(documents: Iterable[str]) -> Iterator[str]:
    for document in documents:
        for line in document.splitlines():
            for part in _END.split(line):
                # Bytes that were no valid text stand in it as halves of characters, which no tokenizer takes.
                sentence = " ".join(part.split()).encode(errors="replace").decode()
                if sentence.endswith((".", "!", "?")) and _LEAST <= sentence.count(" ") + 1 <= _MOST:
                    yield sentence


class Pool:
    """Sentences by their place in the space of an encoder's sentence vectors.

    The vectors are means over tokens of the states after two thirds of the layers, centred: what a text is about stands there
    more plainly than in the last layer, which serves the encoder's own objective.

    Args:
        sentences: At least one.
        encoder: Whose vectors count.
        observer: Receives progress: thousands of sentences take the encoder about a minute on one core.
    """

    def __init__(self, sentences: Sequence[str], encoder: Encoder, observer: Observer | None = None) -> None:
        self.sentences, self._encoder, observer = list(sentences), encoder, observer or Quiet()
        parts = []
        for start in range(0, len(self.sentences), _AT_ONCE):
            observer.progress("agora", start, len(self.sentences), "vectors of corpus sentences")
            parts.append(self._vectors(self.sentences[start : start + _AT_ONCE]))
        raw = np.concatenate(parts)
        self._centre = raw.mean(axis=0)
        self._places = _unit(raw - self._centre)
        self._near: dict[str, list[str]] = {}

    def nearest(self, text: str) -> list[str]:
        """Return the twelve sentences with the largest cosine, the nearest first; fewer where there are not so many."""
        if text not in self._near:
            likeness = self._places @ _unit(self._vectors([text]) - self._centre)[0]
            self._near[text] = [self.sentences[place] for place in np.argsort(-likeness, kind="stable")[:_NEAREST]]
        return self._near[text]

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        layers = self._encoder.features(texts)
        return layers[:, round(2 / 3 * (layers.shape[1] - 1))]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


class Retrieve:
    """Take one of the corpus sentences that are nearest to a single text. The pairs of a task stand in no corpus.

    Args:
        pool: The sentences.
    """

    name = "retrieve"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def make(self, example: Example, number: int, seed: int) -> tuple[str, ...]:
        """Return one of the nearest twelve."""
        near = self._pool.nearest(example.texts[0])
        return (near[int(named_generator(seed, self.name, example.texts, number).integers(len(near)))],)
