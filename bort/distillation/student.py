"""The student: the transformers model of an architecture, and what training needs beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bort.architecture import Architecture
from bort.distillation.config import StudentConfig
from bort.distillation.initialisation import initialise_from_teacher
from bort.files import atomic_path

if TYPE_CHECKING:
    from bort.teacher import Teacher

Relations = tuple[Tensor, Tensor, Tensor]
_RELATIONS = ("query", "key", "value")
#: The hidden size at which ``student.initializer_range`` is meant: BERT-large's, Bort's and the teacher's of the paper.
REFERENCE_WIDTH = 1024


@dataclass(frozen=True)
class Encoded:
    """What the student makes of a batch.

    Args:
        hidden: Last hidden states, [B, S, H].
        relations: Queries, keys and values of the last layer, [B, S, H] each, where they were asked for.
    """

    hidden: Tensor
    relations: Relations | None


class StudentModel(nn.Module):
    """A masked LM of transformers (BERT or RoBERTa family) with a projection to the teacher's width where the loss needs one.

    Args:
        model: ``BertForMaskedLM`` or ``RobertaForMaskedLM``.
        projected: The teacher's hidden size, or absent if hidden states are not compared.
    """

    def __init__(self, model: Any, projected: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.projection = nn.Linear(model.config.hidden_size, projected) if projected else None
        self._caught: dict[str, Tensor] = {}
        for name in _RELATIONS:
            getattr(self.last_attention, name).register_forward_hook(_catch(self._caught, name))

    @property
    def encoder(self) -> Any:
        """The model without its masked-LM head."""
        return self.model.base_model

    @property
    def last_attention(self) -> Any:
        """The self-attention of the last layer, with its ``query``, ``key`` and ``value``."""
        return self.encoder.encoder.layer[-1].attention.self

    def encode(self, input_ids: Tensor, relations: bool = False) -> Encoded:
        """Runs the encoder over full blocks, which need no attention mask.

        Args:
            input_ids: [B, S].
            relations: Whether queries, keys and values of the last layer are wanted.
        """
        hidden: Tensor = self.encoder(input_ids=input_ids).last_hidden_state
        query, key, value = (self._caught[name] for name in _RELATIONS)
        # What was caught must not keep a step's graph alive.
        self._caught.clear()
        return Encoded(hidden, (query, key, value) if relations else None)

    def logits(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Returns the vocabulary logits at masked positions only, [B, K, V]; anywhere else they would be computed for nothing.

        Args:
            hidden: [B, S, H].
            positions: [B, K], positions in 0 … S − 1.
        """
        return self.vocabulary(hidden.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])))

    def vocabulary(self, hidden: Tensor) -> Tensor:
        """Returns the vocabulary logits [..., V] of hidden states [..., H]."""
        head = self.model.cls if hasattr(self.model, "cls") else self.model.lm_head
        result: Tensor = head(hidden)
        return result

    def save(self, directory: Path, tokenizer: Any) -> None:
        """Writes the directory that ``AutoModelForMaskedLM`` and ``AutoTokenizer`` read; the projection is left out."""
        from transformers.utils import logging

        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            with atomic_path(directory) as temporary:
                self.model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
        finally:
            if bars:
                logging.enable_progress_bar()


def build_student(
    architecture: Architecture, teacher: Teacher, config: StudentConfig, *, seed: int, project: bool = False
) -> StudentModel:
    """Returns an untrained student of the teacher's family and vocabulary.

    Args:
        architecture: Its shape.
        teacher: Gives family, vocabulary, positions and, where the configuration says so, a start for the weights.
        config: Initialisation and dropout.
        seed: Seeds the random weights; torch's global generator is left as it was.
        project: Whether hidden states will be compared with the teacher's, which needs a projection.
    """
    from transformers import BertForMaskedLM, RobertaForMaskedLM

    settings = architecture.config(
        teacher.family,
        vocab_size=teacher.vocab_size,
        positions=teacher.positions,
        # transformers needs at least one row even where, as in Bort, there are no token types.
        token_types=max(1, teacher.token_types),
        dropout=config.dropout,
        initializer_range=config.initializer_range * math.sqrt(REFERENCE_WIDTH / architecture.hidden),
        **_inherited(teacher),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (RobertaForMaskedLM if teacher.family == "roberta" else BertForMaskedLM)(settings)
        student = StudentModel(model, teacher.architecture.hidden if project else None)
        if config.initialisation == "teacher":
            initialise_from_teacher(model, teacher.encoder, architecture, teacher.architecture)
    return student


def student_parameters(student: StudentModel, *, head: bool = False) -> int:
    """Returns p, the encoder's trainable parameters with its embeddings, and with the masked-LM head where that is asked for."""
    counted = student.model if head else student.encoder
    return sum(parameter.numel() for parameter in counted.parameters())


def _inherited(teacher: Teacher) -> dict[str, Any]:
    """What a student takes from its teacher beside the vocabulary: special tokens, the activation and the norm's ε."""
    config = teacher.encoder.config
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "hidden_act", "layer_norm_eps")
    return {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}


def _catch(caught: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        caught[name] = output

    return hook
