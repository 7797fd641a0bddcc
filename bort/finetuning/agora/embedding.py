"""A word embedding reduced to the rows that occur, for the duration of a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class CompactEmbedding(nn.Module):
    """The rows of a word embedding that occur, in the place of all of them.

    Of a small encoder nearly all parameters are words, of which few occur in a low-data task, and a step of the optimiser goes
    through all. Rows that do not occur have no gradient: they stay as they are, where weight decay would have shrunk them a little.

    Args:
        whole: The embedding.
        tokens: The tokens that occur, in rising order.
    """

    def __init__(self, whole: nn.Embedding, tokens: NDArray[np.int64]) -> None:
        super().__init__()
        padding = whole.padding_idx
        if padding is not None:
            tokens = np.union1d(tokens, [padding])
        places = torch.zeros(whole.num_embeddings, dtype=torch.long)
        self._tokens = torch.from_numpy(tokens)
        places[self._tokens] = torch.arange(len(tokens))
        # In a list, so that the whole embedding is no part of the module, and nobody trains or moves it.
        self._whole = [whole]
        self.rows = nn.Embedding(len(tokens), whole.embedding_dim, padding_idx=None if padding is None else int(places[padding]))
        self.rows.weight = nn.Parameter(whole.weight.detach()[self._tokens].clone())
        self.register_buffer("places", places.to(whole.weight.device), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the rows of tokens that occur."""
        found: Tensor = self.rows(self.places[tokens])  # type: ignore[index]
        return found

    def whole(self) -> nn.Embedding:
        """Returns the whole embedding with the rows as they are now."""
        embedding = self._whole[0].to(self.rows.weight.device)
        with torch.no_grad():
            embedding.weight[self._tokens] = self.rows.weight
        return embedding


def compact(model: Any, tokens: NDArray[np.int64]) -> None:
    """Puts the rows that occur in the place of a model's word embedding, where it is trained."""
    base = model.base_model
    try:
        embedding = base.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        # A frozen bottom has been taken out, and its embedding with it.
        return
    if isinstance(embedding, nn.Embedding) and embedding.weight.requires_grad:
        base.set_input_embeddings(CompactEmbedding(embedding, tokens))


def expand(model: Any) -> None:
    """Puts the whole word embedding back."""
    embedding = model.base_model.get_input_embeddings()
    if isinstance(embedding, CompactEmbedding):
        model.base_model.set_input_embeddings(embedding.whole())
