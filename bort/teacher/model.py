"""A loaded teacher: one face for the families of encoders that can teach."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bort.corpus.tokenizer import tokenizer_digest
from bort.errors import BortError, ConfigurationError
from bort.files import digest
from bort.teacher.config import FAMILIES, TeacherConfig
from bort.teacher.shape import shape_of
from bort.teacher.sparse import SparseLogits


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


_APART = (
    ("query", "key", "value"),
    ("q", "k", "v"),
    ("q_lin", "k_lin", "v_lin"),
    ("q_proj", "k_proj", "v_proj"),
    ("query_proj", "key_proj", "value_proj"),
)

#: One matrix for all three, its rows in this order.
_FUSED = "Wqkv"


class Projections:
    """The three projections of an encoder's last attention.

    Where positions are rotary or relative, queries and keys are those before positions come in: a student of another kind of
    positions can imitate only these.

    Attributes:
        first: The module whose input all three project.
    """

    def __init__(self, modules: tuple[nn.Linear, ...]) -> None:
        self._modules = modules
        self.first = modules[0]

    def __call__(self, layer_input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values, [B, S, H] each, of the projections' input [B, S, H]."""
        if len(self._modules) == 1:
            query, key, value = self._modules[0](layer_input).chunk(3, dim=-1)
        else:
            query, key, value = (module(layer_input) for module in self._modules)
        return query, key, value


def find_projections(encoder: Any) -> Projections | None:
    """Returns the projections of the encoder's last attention, or nothing where they have names that are not known."""
    found: tuple[nn.Linear, ...] | None = None
    for module in encoder.modules():
        children = dict(module.named_children())
        for names in (*_APART, (_FUSED,)):
            linear = tuple(child for name in names if isinstance(child := children.get(name), nn.Linear))
            if len(linear) == len(names) and (len(linear) > 1 or linear[0].out_features % 3 == 0):
                # Layers are registered from the first to the last.
                found = linear
    return Projections(found) if found else None


@dataclass(frozen=True)
class TargetBatch:
    """The soft targets of a batch, float32.

    Args:
        hidden: The teacher's last hidden state, [B, S, H]; kind ``representation``.
        layer_input: What the last layer's queries, keys and values are projected from, [B, S, H]; kind ``representation``, where
            the teacher's projections are known.
        transformed: The head's transformed hidden state at the masked positions, [B, K, E]; kind ``logits``.
        logits: The logits themselves, [B, K, V], of a teacher that runs along and whose head cannot be cut before its decoder.
        kept: The part of the logits that the form ``topk`` keeps, of [B, K] rows.
    """

    hidden: Tensor | None = None
    layer_input: Tensor | None = None
    transformed: Tensor | None = None
    logits: Tensor | None = None
    kept: SparseLogits | None = None


class Teacher:
    """An encoder in evaluation mode, with its tokenizer and, where it has one, its masked-LM head.

    Args:
        encoder: transformers' base model of a BERT-like family; it is frozen and put into evaluation mode.
        tokenizer: Its fast tokenizer.
        model: The masked LM that ``encoder`` is the base of, where its head was trained; or nothing.
        path: Where the teacher was read, for messages.

    Attributes:
        encoder: The frozen base model.
        tokenizer: The tokenizer; the student takes it over.
        family: The family of its students, ``bert`` or ``roberta``.
        architecture: The encoder's shape.
        vocab_size: Rows of the word embedding.
        positions: Tokens that fit into one sequence.
        token_types: Rows of the token-type embedding.
        has_head: Whether there is a masked-LM head that was trained.
        has_relations: Whether queries, keys and values of its last layer can be had.
        splits: Whether the logits can be had from a transformed hidden state by one product.
        parameters: Trainable parameters of the encoder, without pooler and head.
        head_parameters: Parameters that the head adds; a decoder that is tied to the word embedding adds its bias.
    """

    def __init__(self, encoder: Any, tokenizer: Any, model: Any | None, path: str) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.tokenizer, self.path, self._model = tokenizer, path, model
        self.config = encoder.config
        self.family = FAMILIES[self.config.model_type]
        shape = shape_of(self.config.to_dict(), TeacherConfig(path=path))
        self.architecture = shape.architecture
        self.vocab_size, self.positions, self.token_types = shape.vocab_size, shape.positions, shape.token_types
        self._projections = find_projections(encoder)
        self.has_relations = self._projections is not None
        self._head = None if model is None else SplitHead(model.eval().requires_grad_(False))
        self.has_head = self._head is not None
        self.parameters = sum(value.numel() for name, value in encoder.named_parameters() if not name.startswith("pooler."))
        self.head_parameters = sum(value.numel() for _, value in self._head.parameters()) if self._head else 0

    @property
    def head_width(self) -> int:
        """Numbers of a transformed hidden state, E.

        Raises:
            BortError: The teacher has no masked-LM head.
        """
        return int(self._needed_head().decoder.in_features)

    @cached_property
    def splits(self) -> bool:
        """Whether the logits come from a transformed hidden state by one product; tried once."""
        return self._needed_head().works()

    @cached_property
    def tokenizer_digest(self) -> str:
        """Identifies the tokenizer, as :attr:`bort.corpus.dataset.Corpus.tokenizer_digest` does."""
        return tokenizer_digest(self.tokenizer)

    @cached_property
    def digest(self) -> str:
        """Identifies weights, configuration and tokenizer, wherever and in whatever file format they are stored."""
        state = hashlib.sha256()
        named = [(f"encoder.{name}", tensor) for name, tensor in sorted(self.encoder.state_dict().items())]
        if self._head is not None:
            named += [(f"head.{name}", parameter.detach()) for name, parameter in sorted(self._head.parameters())]
        for name, tensor in named:
            state.update(f"{name}{tuple(tensor.shape)}".encode())
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
        (self.encoder if self._model is None else self._model).to(device)
        return self

    def encode(self, input_ids: Tensor) -> Tensor:
        """Returns the last hidden state [B, S, H] of token ids without padding, int64 [B, S]."""
        with torch.inference_mode():
            hidden: Tensor = self.encoder(input_ids=input_ids.to(self.device)).last_hidden_state
        return hidden

    def represent(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the encoder over full blocks.

        Args:
            input_ids: Token ids without padding, int64 [B, S].

        Returns:
            The last hidden state and what the last layer's queries, keys and values are projected from, both [B, S, H].

        Raises:
            BortError: The projections of the last layer are not known.
        """
        if self._projections is None:
            raise self._no_relations()
        seen: list[Tensor] = []

        def keep(_module: Any, arguments: tuple[Any, ...]) -> None:
            seen[:] = [arguments[0]]

        handle = self._projections.first.register_forward_pre_hook(keep)
        try:
            hidden = self.encode(input_ids)
        finally:
            handle.remove()
        return hidden, seen[0]

    def relation_inputs(self, layer_input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values of the last layer, each [B, S, H], from what they are projected from, [B, S, H].

        Raises:
            BortError: The projections of the last layer are not known.
        """
        if self._projections is None:
            raise self._no_relations()
        return self._projections(layer_input)

    def transform(self, hidden: Tensor) -> Tensor:
        """Returns the head's transformed hidden state [*, E] of the encoder's last hidden state [*, H].

        Raises:
            BortError: The teacher has no masked-LM head.
        """
        return self._needed_head().transform(hidden)

    def logits(self, transformed: Tensor) -> Tensor:
        """Returns the logits [*, V] of transformed hidden states [*, E]: one matrix product and a bias.

        Raises:
            BortError: The teacher has no masked-LM head.
        """
        return self._needed_head().logits(transformed)

    def targets_of(self, input_ids: Tensor, positions: Tensor | None = None) -> TargetBatch:
        """Runs the teacher now: what stored soft targets give back for the same blocks, without the rounding of their storage.

        Args:
            input_ids: The blocks, masked where ``positions`` are given and whole otherwise, int64 [B, S].
            positions: The masked positions, int64 [B, K].

        Returns:
            ``transformed`` (or ``logits``, where the head cannot be cut) where positions are given, else ``hidden`` and, where the
            projections are known, ``layer_input``; on the teacher's device, ordinary tensors without a gradient.

        Raises:
            BortError: Positions are given and the teacher has no masked-LM head.
        """
        if positions is None:
            hidden, layer_input = self.represent(input_ids) if self.has_relations else (self.encode(input_ids), None)
            # A tensor of inference mode may not be saved for a gradient of something else; its copy may.
            return TargetBatch(hidden=hidden.clone(), layer_input=None if layer_input is None else layer_input.clone())
        places = positions.to(self.device)[..., None]
        if not self.splits:
            with torch.inference_mode():
                logits = self._needed_head().model(input_ids=input_ids.to(self.device)).logits
                return TargetBatch(logits=logits.gather(1, places.expand(-1, -1, logits.shape[-1])).clone())
        hidden = self.encode(input_ids)
        with torch.inference_mode():
            transformed = self.transform(hidden.gather(1, places.expand(-1, -1, hidden.shape[-1])))
        return TargetBatch(transformed=transformed.clone())

    @torch.no_grad()
    def logits_of(self, batch: TargetBatch) -> Tensor:
        """Returns the logits [B, K, V] of a batch that :meth:`targets_of` made for masked positions, or that was kept exactly."""
        if batch.logits is not None:
            return batch.logits
        assert batch.transformed is not None, "representations have no logits"
        return self.logits(batch.transformed)

    def _needed_head(self) -> SplitHead:
        if self._head is None:
            raise ConfigurationError(
                "teacher.path",
                self.path,
                "a teacher with a masked-LM head, which a loss on logits needs; "
                "let 'bort teacher' fit one (teacher.head.missing=fit), "
                "or choose a loss on representations (loss=representation, hidden or relations)",
            )
        return self._head

    def _no_relations(self) -> BortError:
        return ConfigurationError(
            "teacher.path",
            self.path,
            f"another teacher, as queries, keys and values of a '{self.config.model_type}' model cannot be told apart; "
            "or choose a loss without relations "
            "(loss=hidden)",
        )


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
