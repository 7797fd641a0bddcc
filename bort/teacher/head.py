"""The head of a masked LM, cut in two where its decoder begins, whatever the family calls the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class SplitHead:
    """What a masked LM of transformers does after its encoder: a transform, then a decoder to the vocabulary.

    The transform is the model's own ``forward`` with two stand-ins: the encoder answers the hidden states that are given, and the
    decoder hands on what it is given. So no family's head is written down here a second time; :meth:`works` compares the two halves
    with the whole.

    Args:
        model: A masked LM of transformers whose output embeddings are a linear layer.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.decoder: Any = model.get_output_embeddings()

    def transform(self, hidden: Tensor) -> Tensor:
        """Returns the decoder's input [*, E] for last hidden states [*, H]."""
        from transformers.modeling_outputs import BaseModelOutput

        rows = hidden.reshape(1, -1, hidden.shape[-1])
        answer = BaseModelOutput(last_hidden_state=rows)
        with _standing_in(self.model.base_model, lambda *_, **__: answer), _standing_in(self.decoder, lambda given: given):
            ids = torch.zeros(rows.shape[:2], dtype=torch.long, device=hidden.device)
            transformed: Tensor = self.model(input_ids=ids).logits
        return transformed.reshape(*hidden.shape[:-1], transformed.shape[-1])

    def logits(self, transformed: Tensor) -> Tensor:
        """Returns the logits [*, V] for the decoder's inputs [*, E]."""
        logits: Tensor = self.decoder(transformed)
        return logits

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields the parameters that the head adds to the encoder, by name; a tied decoder's matrix is the encoder's."""
        encoder = {id(parameter) for parameter in self.model.base_model.parameters()}
        return ((name, value) for name, value in self.model.named_parameters() if id(value) not in encoder)

    @torch.no_grad()
    def works(self) -> bool:
        """Returns whether the two halves together give the model's own logits, tried on a few tokens."""
        if not isinstance(self.decoder, nn.Linear):
            return False
        device = self.decoder.weight.device
        ids = torch.arange(2, 18, device=device).remainder(self.model.config.vocab_size)[None]
        whole = self.model(input_ids=ids).logits
        try:
            halves = self.logits(self.transform(self.model.base_model(input_ids=ids).last_hidden_state))
        except (RuntimeError, TypeError, AttributeError, ValueError):
            # A head that asks more of its encoder or of its decoder than hidden states.
            return False
        return halves.shape == whole.shape and torch.allclose(halves, whole, rtol=1e-4, atol=1e-4)


@contextmanager
def _standing_in(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Lets ``forward`` stand in for the module's own for a while."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
