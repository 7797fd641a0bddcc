"""Texts as vectors: TF-IDF, a frozen encoder's layers, and static token vectors; of a pair also their difference and product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bort.baselines.rows import Texts


class Features(Protocol):
    """Vectors of single texts. ``fit`` sees the texts of the training rows; labels are never shown."""

    @property
    def parameters(self) -> int:
        """Numbers that the features need at inference, the linear model's own apart."""

    def fit(self, texts: Sequence[str]) -> None:
        """Learn what the features need of the training texts, such as a vocabulary."""

    def vectors(self, texts: Sequence[str]) -> Any:
        """Return one row per text, [N, F]: a numpy array or a scipy sparse matrix."""


class TfidfFeatures:
    """TF-IDF of words and word pairs, with sublinear term frequencies."""

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")

    @property
    def parameters(self) -> int:
        """The inverse document frequencies."""
        return len(self._vectorizer.idf_)

    def fit(self, texts: Sequence[str]) -> None:
        """Count the n-grams of the training texts.

        Raises:
            ValueError: No text holds a word.
        """
        self._vectorizer.fit(texts)

    def vectors(self, texts: Sequence[str]) -> Any:
        """Return sparse rows of unit length, [N, F]."""
        return self._vectorizer.transform(texts)


class LayerFeatures:
    """Means over the tokens of what one layer of a frozen encoder returns.

    Args:
        encoder: A :class:`bort.teacher.features.TextEncoder`.
        layer: 0 for the embedding layer, −1 for the last.
        parameters: Parameters up to that layer.
    """

    def __init__(self, encoder: Any, layer: int, parameters: int) -> None:
        self._encoder, self._layer, self.parameters = encoder, layer, parameters

    def fit(self, texts: Sequence[str]) -> None:
        """Learn nothing."""

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return [N, H]."""
        means = self._encoder.embedding_means(texts) if self._layer == 0 else self._encoder.layer_means(texts)[:, self._layer]
        return np.asarray(means, dtype=np.float64)


def combined(features: Features, rows: Sequence[Texts]) -> Any:
    """Return the features of rows: of a single text its vector u, of a pair [u, v, |u − v|, u ∘ v] (Conneau et al. 2017)."""
    import scipy.sparse as sparse

    sides = [features.vectors([texts[side] for texts in rows]) for side in range(len(rows[0]))]
    if len(sides) == 1:
        return sides[0]
    one, other = sides
    if sparse.issparse(one):
        return sparse.hstack([one, other, abs(one - other), one.multiply(other)]).tocsr()
    return np.concatenate([one, other, np.abs(one - other), one * other], axis=1)
