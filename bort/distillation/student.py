"""The student: the transformers model of an architecture, and what training needs beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bort.architecture import Architecture
from bort.distillation.config import StudentConfig
from bort.files import atomic_path
from bort.quiet import quiet

if TYPE_CHECKING:
    from bort.teacher.model import Teacher


def initialise_from_teacher(model: Any, teacher: Any, student_shape: Architecture, teacher_shape: Architecture) -> None:
    """Write what fits of the teacher's weights into a student.

    Where the hidden sizes are equal and the teacher is of the student's own family the embeddings are copied as they are, and a
    layer's attention (equal heads) and feed-forward part (equal intermediate size) are copied from layers spread evenly over the
    teacher, its last among them. Otherwise the embeddings are projected by :func:`projection_matrix` and layers keep their random
    weights. The draws come from torch's global generator, which the caller seeds.

    Args:
        model: The student, a masked LM of transformers.
        teacher: The teacher's encoder, of any family.
        student_shape: The student's shape.
        teacher_shape: The teacher's shape.
    """
    mine, layers = model.base_model.embeddings, model.base_model.encoder.layer
    with torch.no_grad():
        if not _alike(model.base_model, teacher):
            project_embeddings(mine, _embeddings(teacher), lambda words: projection_matrix(words, student_shape.hidden))
            return
        mine.load_state_dict(teacher.embeddings.state_dict(), strict=False)
        for index, layer in enumerate(layers):
            source = teacher.encoder.layer[(index + 1) * teacher_shape.depth // student_shape.depth - 1]
            if student_shape.heads == teacher_shape.heads:
                layer.attention.load_state_dict(source.attention.state_dict())
            if student_shape.intermediate == teacher_shape.intermediate:
                layer.intermediate.load_state_dict(source.intermediate.state_dict())
                layer.output.load_state_dict(source.output.state_dict())


def _alike(student: Any, teacher: Any) -> bool:
    """Return whether the two have equal widths, and the teacher's layers the parts of the student's under the same names."""
    layers = getattr(getattr(teacher, "encoder", None), "layer", None)
    # ELECTRA's embeddings may be narrower than its layers.
    widths = {student.config.hidden_size, teacher.config.hidden_size, teacher.get_input_embeddings().embedding_dim}
    named = layers is not None and layers[0].state_dict().keys() == student.encoder.layer[0].state_dict().keys()
    return named and len(widths) == 1


def _embeddings(teacher: Any) -> Any:
    """Return the teacher's word and position embeddings under the names that BERT has for them."""
    own = getattr(teacher, "embeddings", None)
    return SimpleNamespace(
        word_embeddings=teacher.get_input_embeddings(), position_embeddings=getattr(own, "position_embeddings", None)
    )


def projection_matrix(embeddings: Tensor, hidden: int) -> Tensor:
    """Return a matrix [H_teacher, H] that takes embeddings to the student's width with the least squared error.

    Its columns span the first H right singular vectors of the embeddings (all of them where the student is wider). A random
    rotation follows: it keeps every inner product, and spreads the variance, which a truncated singular value decomposition
    concentrates in a few columns, evenly over all, as layer norm and Adam expect.

    Args:
        embeddings: The teacher's word embeddings, [V, H_teacher], centred.
        hidden: The student's width, H.
    """
    basis = principal_directions(embeddings, hidden)
    rotation, _ = torch.linalg.qr(torch.randn(hidden, hidden, dtype=basis.dtype))
    return basis @ rotation[: basis.shape[1]]


def principal_directions(embeddings: Tensor, count: int) -> Tensor:
    """Return the first right singular vectors of centred embeddings [V, H], as columns [H, min(count, H)]."""
    _, vectors = torch.linalg.eigh(embeddings.T @ embeddings)
    return vectors.flip(1)[:, :count]


def project_embeddings(mine: Any, theirs: Any, matrix_for: Callable[[Tensor], Tensor]) -> None:
    """Write a teacher's embeddings, taken to another width, into a student's.

    Args:
        mine: The student's embeddings, as transformers has them, with random weights.
        theirs: The teacher's; one of relative or rotary positions has none to give.
        matrix_for: Returns the projection [H_teacher, H] for centred word embeddings [V, H_teacher].
    """
    words = theirs.word_embeddings.weight.detach()
    mean = words.mean(dim=0)
    matrix = matrix_for(words - mean)
    projected = (words - mean) @ matrix
    # One factor for all: the random weights' spread, to which the learning rate is tuned, with the teacher's proportions.
    factor = mine.word_embeddings.weight.std() / projected.std()
    mine.word_embeddings.weight.copy_(projected * factor)
    if theirs.position_embeddings is not None:
        positions = theirs.position_embeddings.weight.detach()
        rows = min(len(positions), len(mine.position_embeddings.weight))
        mine.position_embeddings.weight[:rows] = (positions[:rows] @ matrix) * factor
    padding = mine.word_embeddings.padding_idx
    if padding is not None:
        mine.word_embeddings.weight[padding] = 0.0


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
        """Run the encoder over full blocks, which need no attention mask.

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
        """Return the vocabulary logits at masked positions only, [B, K, V]; anywhere else they would be computed for nothing.

        Args:
            hidden: [B, S, H].
            positions: [B, K], positions in 0 … S − 1.
        """
        return self.vocabulary(hidden.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])))

    def vocabulary(self, hidden: Tensor) -> Tensor:
        """Return the vocabulary logits [..., V] of hidden states [..., H]."""
        head = self.model.cls if hasattr(self.model, "cls") else self.model.lm_head
        result: Tensor = head(hidden)
        return result

    def save(self, directory: Path, tokenizer: Any) -> None:
        """Write the directory that ``AutoModelForMaskedLM`` and ``AutoTokenizer`` read; the projection is left out."""
        with atomic_path(directory) as temporary, quiet("transformers"):
            self.model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)


def build_student(
    architecture: Architecture, teacher: Teacher, config: StudentConfig, *, seed: int, project: bool = False
) -> StudentModel:
    """Return an untrained student of the teacher's family and vocabulary.

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
    """Return p, the encoder's trainable parameters with its embeddings, and with the masked-LM head where that is asked for."""
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
