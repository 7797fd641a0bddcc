"""A loaded teacher: one face for the families of encoders that can teach."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bort.architecture import Architecture
from bort.corpus.tokenizer import tokenizer_digest
from bort.errors import BortError, ConfigurationError
from bort.files import digest
from bort.teacher.config import FAMILIES


class Teacher:
    """An encoder in evaluation mode, with its tokenizer and, where it has one, its masked-LM head.

    Args:
        encoder: transformers' base model of a BERT-like family; it is frozen and put into evaluation mode.
        tokenizer: Its fast tokenizer.
        head: The model's masked-LM head (``cls.predictions`` or ``lm_head``), or nothing.
        path: Where the teacher was read, for messages.

    Attributes:
        encoder: The frozen base model, without pooler.
        tokenizer: The tokenizer; the student takes it over.
        family: ``bert`` or ``roberta``.
        architecture: The encoder's shape.
        vocab_size: Rows of the word embedding.
        positions: Tokens that fit into one sequence.
        token_types: Rows of the token-type embedding.
        has_head: Whether there is a masked-LM head that was trained.
        parameters: Trainable parameters of the encoder, without pooler and head.
        head_parameters: Parameters that the head adds; its decoder is tied to the word embedding.
    """

    def __init__(self, encoder: Any, tokenizer: Any, head: Any | None, path: str) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.tokenizer, self.path = tokenizer, path
        self._head = None if head is None else head.eval().requires_grad_(False)
        self.config = encoder.config
        self.family = FAMILIES[self.config.model_type]
        self.architecture = Architecture(
            self.config.num_hidden_layers,
            self.config.num_attention_heads,
            self.config.hidden_size,
            self.config.intermediate_size,
        )
        self.vocab_size: int = self.config.vocab_size
        # RoBERTa counts positions from the padding id upwards, so that some rows of its embedding are never reached.
        offset = self.config.pad_token_id + 1 if self.family == "roberta" else 0
        self.positions: int = self.config.max_position_embeddings - offset
        self.token_types: int = self.config.type_vocab_size
        self.has_head = head is not None
        self.parameters = sum(parameter.numel() for parameter in self.encoder.parameters())
        shared = {id(parameter) for parameter in self.encoder.parameters()}
        self.head_parameters = sum(parameter.numel() for parameter in self._head_parameters() if id(parameter) not in shared)

    @cached_property
    def tokenizer_digest(self) -> str:
        """Identifies the tokenizer, as :attr:`bort.corpus.store.Corpus.tokenizer_digest` does."""
        return tokenizer_digest(self.tokenizer)

    @cached_property
    def digest(self) -> str:
        """Identifies weights, configuration and tokenizer, wherever and in whatever file format they are stored."""
        state = hashlib.sha256()
        modules = [("encoder", self.encoder)] + ([("head", self._head)] if self._head is not None else [])
        for prefix, module in modules:
            for name, tensor in sorted(module.state_dict().items()):
                state.update(f"{prefix}.{name}{tuple(tensor.shape)}".encode())
                state.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        shape = {name: getattr(self.config, name, None) for name in ("model_type", "hidden_act", "layer_norm_eps", "pad_token_id")}
        shape["architecture"] = str(self.architecture)
        return digest({"weights": state.hexdigest(), "config": shape, "tokenizer": self.tokenizer_digest})

    @property
    def device(self) -> torch.device:
        """The device the teacher is on."""
        return next(self.encoder.parameters()).device

    def to(self, device: torch.device | str) -> Teacher:
        """Moves the teacher to ``device`` and returns it."""
        self.encoder.to(device)
        if self._head is not None:
            self._head.to(device)
        return self

    def represent(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the encoder over full blocks.

        Args:
            input_ids: Token ids without padding, int64 [B, S].

        Returns:
            The last hidden state and the last layer's input, both [B, S, H].
        """
        seen: list[Tensor] = []

        def keep(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen.append(arguments[0] if arguments else named["hidden_states"])

        handle = self._last_layer.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            with torch.inference_mode():
                hidden = self.encoder(input_ids=input_ids.to(self.device)).last_hidden_state
        finally:
            handle.remove()
        return hidden, seen[0]

    def relation_inputs(self, layer_input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values of the last layer, each [B, S, H], from the last layer's input [B, S, H]."""
        attention = self._last_layer.attention.self
        return attention.query(layer_input), attention.key(layer_input), attention.value(layer_input)

    def transform(self, hidden: Tensor) -> Tensor:
        """Returns the head's transformed hidden state [*, H] of the encoder's last hidden state [*, H].

        Raises:
            BortError: The teacher has no masked-LM head.
        """
        head = self._needed_head()
        if self.family == "bert":
            transformed: Tensor = head.predictions.transform(hidden)
        else:
            transformed = head.layer_norm(torch.nn.functional.gelu(head.dense(hidden)))
        return transformed

    def logits(self, transformed: Tensor) -> Tensor:
        """Returns the logits [*, V] of transformed hidden states [*, H]: one matrix product and a bias.

        Raises:
            BortError: The teacher has no masked-LM head.
        """
        logits: Tensor = self._decoder(transformed)
        return logits

    @property
    def _decoder(self) -> Callable[[Tensor], Tensor]:
        head = self._needed_head()
        decoder: Callable[[Tensor], Tensor] = head.predictions.decoder if self.family == "bert" else head.decoder
        return decoder

    @property
    def _last_layer(self) -> Any:
        return self.encoder.encoder.layer[-1]

    def _needed_head(self) -> Any:
        if self._head is None:
            raise ConfigurationError(
                "teacher.path",
                self.path,
                "it has no masked-LM head, which a loss on logits needs; choose a loss on representations "
                "(loss=representation, hidden or relations), or a teacher with such a head",
            )
        return self._head

    def _head_parameters(self) -> list[Any]:
        return [] if self._head is None else list(self._head.parameters())


def check_vocabulary(teacher: Teacher, vocab_size: int, digest_of_tokenizer: str) -> None:
    """Refuses a corpus that another tokenizer made.

    Raises:
        BortError: The tokenizers differ, or the corpus has tokens that the teacher has no row for.
    """
    if digest_of_tokenizer != teacher.tokenizer_digest:
        raise BortError(
            f"The corpus was tokenised by another tokenizer ({digest_of_tokenizer[:12]}…) than the one of the teacher "
            f"{teacher.path} ({teacher.tokenizer_digest[:12]}…); build the corpus with this teacher."
        )
    if vocab_size > teacher.vocab_size:
        raise BortError(
            f"The tokenizer of {teacher.path} has {vocab_size} tokens and its word embedding only {teacher.vocab_size} rows; "
            "the two do not belong together."
        )
