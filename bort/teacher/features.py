"""Texts as vectors of a frozen encoder: means over the tokens of its embedding layer and of each of its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Tokens, padding included, that are read at once.
TOKENS = 4096


class TextEncoder:
    """A frozen encoder and its tokenizer, read without gradients.

    Args:
        encoder: A base model of transformers, in evaluation mode.
        tokenizer: Its fast tokenizer.
        max_length: Tokens of a text that are read, special tokens included.
    """

    def __init__(self, encoder: Any, tokenizer: Any, max_length: int) -> None:
        self.encoder, self.tokenizer, self.max_length = encoder, tokenizer, max_length

    def layer_means(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the mean over the tokens of each text after the embedding and after each of the L layers, [N, L + 1, H]."""
        layers = self.encoder.config.num_hidden_layers + 1
        found = np.empty((len(texts), layers, self.encoder.config.hidden_size), dtype=np.float32)
        for index, row in self._rows(texts, self._all_layers):
            found[index] = row
        return found

    def embedding_means(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the mean over the tokens of each text after the embedding layer alone, [N, H]; no layer is run."""
        if not self._embeds:
            return self.layer_means(texts)[:, 0]
        found = np.empty((len(texts), self.encoder.config.hidden_size), dtype=np.float32)
        for index, row in self._rows(texts, lambda ids, mask: [self.encoder.embeddings(input_ids=ids)]):
            found[index] = row[0]
        return found

    @cached_property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding layer; of the word embeddings alone if the encoder has no embedding layer of its own."""
        module = self.encoder.embeddings if self._embeds else self.encoder.get_input_embeddings()
        return sum(value.numel() for value in module.parameters())

    @cached_property
    def _embeds(self) -> bool:
        """Whether the encoder's ``embeddings`` return what its first layer reads, tried on a few tokens."""
        module = getattr(self.encoder, "embeddings", None)
        if not callable(module):
            return False
        ids = torch.arange(5, 15, device=self._device)[None] % self.encoder.config.vocab_size
        with torch.inference_mode():
            read = self.encoder(input_ids=ids, output_hidden_states=True).hidden_states[0]
            try:
                found = module(input_ids=ids)
            except (TypeError, RuntimeError, ValueError):
                return False
        return isinstance(found, Tensor) and found.shape == read.shape and torch.allclose(found, read, atol=1e-5)

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.encoder.parameters()).device
        return device

    def _all_layers(self, ids: Tensor, mask: Tensor) -> Sequence[Tensor]:
        states: Sequence[Tensor] = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        return states

    def _rows(
        self, texts: Sequence[str], run: Callable[[Tensor, Tensor], Sequence[Tensor]]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the index of each text and the means of what ``run`` returns, [K, H], in batches of similar length."""
        if not texts:
            return
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        yield from self.means_of(ids, run)

    def means_of(
        self, ids: Sequence[Sequence[int]], run: Callable[[Tensor, Tensor], Sequence[Tensor]] | None = None
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the index of each sequence of token ids and its means over tokens, [K, H].

        Args:
            ids: Token ids with special tokens; no sequence is empty.
            run: Maps ids and mask, [B, S] each, to K states [B, S, H]; all layers by default.
        """
        run = run or self._all_layers
        padding = self.tokenizer.pad_token_id or 0
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        start = 0
        while start < len(order):
            # Ascending lengths: the last sequence of a batch is its longest.
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(ids[order[end]]) <= TOKENS:
                end += 1
            batch = order[start:end]
            width = len(ids[batch[-1]])
            rows = torch.tensor([[*ids[index], *[padding] * (width - len(ids[index]))] for index in batch])
            lengths = torch.tensor([len(ids[index]) for index in batch])
            mask = (torch.arange(width) < lengths[:, None]).long().to(self._device)
            with torch.inference_mode():
                weights = mask.unsqueeze(-1).float()
                states = run(rows.to(self._device), mask)
                means = torch.stack([(state.float() * weights).sum(1) / weights.sum(1) for state in states], dim=1).cpu().numpy()
            yield from zip(batch, means, strict=True)
            start = end
