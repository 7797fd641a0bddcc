"""Static token vectors distilled from an encoder: each token read alone, reduced by PCA, weighted by frequency (model2vec)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.files import atomic_path, read_json, write_json
from bort.teacher.features import TextEncoder

#: a of the smooth inverse frequency weights a / (a + p) (Arora et al. 2017), as model2vec has it.
SIF_COEFFICIENT = 1e-4
_VECTORS, _RECORD = "vectors.npy", "record.json"


def token_vectors(encoder: TextEncoder) -> NDArray[np.float32]:
    """Return the encoder's mean output for each token of the vocabulary read alone, between its special tokens, [V, H]."""
    before, after = _frame(encoder.tokenizer)
    vocabulary = int(encoder.encoder.get_input_embeddings().weight.shape[0])
    found = np.empty((vocabulary, encoder.encoder.config.hidden_size), dtype=np.float32)
    for index, means in encoder.means_of([[*before, token, *after] for token in range(vocabulary)]):
        found[index] = means[-1]
    return found


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that stand before and after a single text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(framed)) if framed[i : i + len(plain)] == plain)
    return framed[:start], framed[start + len(plain) :]


def zipf_weights(count: int) -> NDArray[np.float64]:
    """Return smooth inverse frequency weights of tokens in the order of their frequency, [count].

    Vocabularies are in about that order; the probability of rank r is taken to be proportional to 1 / (r + 2) (Zipf's law).
    """
    inverse = 1.0 / (np.arange(count) + 2.0)
    return np.asarray(SIF_COEFFICIENT / (SIF_COEFFICIENT + inverse / inverse.sum()))


def reduce(vectors: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Return centred vectors in the basis of their first principal components, [V, min(dimensions, H)]."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, basis = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ basis[:, ::-1][:, :dimensions], dtype=np.float32)


class StaticFeatures:
    """The mean of the static vectors of a text's tokens; zero for a text without a known token.

    Args:
        encoder: The encoder that the vectors come from.
        dimensions: Numbers per token; at most the encoder's hidden size.
        cache: Folder that keeps the full vectors between runs, one per encoder; not kept if ``None``.

    Attributes:
        table: The weighted vectors, [V, dimensions].
        vocabulary_seconds: Processor-seconds of the pass over the vocabulary, also if it was read from the cache.
    """

    def __init__(self, encoder: TextEncoder, dimensions: int, cache: Path | None = None) -> None:
        full, self.vocabulary_seconds = _cached(encoder, cache)
        reduced = reduce(full, dimensions)
        self.table = np.asarray(reduced * zipf_weights(len(reduced))[:, None], dtype=np.float32)
        self._encoder = encoder

    @property
    def parameters(self) -> int:
        """The vectors."""
        return int(self.table.size)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn nothing."""

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text without special tokens and unknown ones."""
        tokenizer, unknown = self._encoder.tokenizer, self._encoder.tokenizer.unk_token_id
        length = self._encoder.max_length
        ids = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=length)["input_ids"]
        return [[token for token in one if token != unknown] for one in ids]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return [N, dimensions]."""
        found = np.zeros((len(texts), self.table.shape[1]))
        for row, ids in enumerate(self.tokens(texts)):
            if ids:
                found[row] = self.table[ids].mean(axis=0)
        return found


def _cached(encoder: TextEncoder, folder: Path | None) -> tuple[NDArray[np.float32], float]:
    """Return the vectors of the vocabulary, [V, H], and the processor-seconds that they took."""
    if folder is not None and (folder / _RECORD).exists():
        found: NDArray[np.float32] = np.load(folder / _VECTORS, allow_pickle=False)
        return found, float(read_json(folder / _RECORD)["processor_seconds"])
    started = time.process_time()
    found = token_vectors(encoder)
    seconds = time.process_time() - started
    if folder is not None:
        with atomic_path(folder) as temporary:
            temporary.mkdir(parents=True, exist_ok=True)
            np.save(temporary / _VECTORS, found, allow_pickle=False)
            write_json(temporary / _RECORD, {"processor_seconds": seconds})
    return found, seconds
