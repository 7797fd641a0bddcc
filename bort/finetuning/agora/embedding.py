"""A word embedding reduced to the rows that occur, for the duration of a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class CompactEmbedding(nn.Module):
    """The rows of a word embedding that occur, in place of all of them.

    Of a small encoder nearly all parameters are words, of which few occur in a low-data task, and a step of the optimiser goes
    through all. Rows that do not occur have no gradient: they stay as they are, where weight decay would have shrunk them a little.

    Args:
        entire: The embedding.
        tokens: The tokens that occur, in rising order.
    """

    def __init__(self, entire: nn.Embedding, tokens: NDArray[np.int64]) -> None:
        super().__init__()
        padding = entire.padding_idx
        if padding is not None:
            tokens = np.union1d(tokens, [padding])
        places = torch.zeros(entire.num_embeddings, dtype=torch.long)
        self._tokens = torch.from_numpy(tokens)
        places[self._tokens] = torch.arange(len(tokens))
        # In a list, so that the entire embedding is no part of the module: it is neither trained nor moved.
        self._entire = [entire]
        self.rows = nn.Embedding(len(tokens), entire.embedding_dim, padding_idx=None if padding is None else int(places[padding]))
        self.rows.weight = nn.Parameter(entire.weight.detach()[self._tokens].clone())
        self.register_buffer("places", places.to(entire.weight.device), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the rows of tokens that occur."""
        found: Tensor = self.rows(self.places[tokens])  # type: ignore[index]
        return found

    def expanded(self) -> nn.Embedding:
        """Return the entire embedding with the current rows."""
        embedding = self._entire[0].to(self.rows.weight.device)
        with torch.no_grad():
            embedding.weight[self._tokens] = self.rows.weight
        return embedding


def compact(model: Any, tokens: NDArray[np.int64]) -> None:
    """Replace a model's word embedding by the rows that occur, if it is trained."""
    base = model.base_model
    try:
        embedding = base.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        # A frozen bottom has been taken out, and its embedding with it.
        return
    if isinstance(embedding, nn.Embedding) and embedding.weight.requires_grad:
        base.set_input_embeddings(CompactEmbedding(embedding, tokens))


def expand(model: Any) -> None:
    """Put the entire word embedding back."""
    embedding = model.base_model.get_input_embeddings()
    if isinstance(embedding, CompactEmbedding):
        model.base_model.set_input_embeddings(embedding.expanded())
