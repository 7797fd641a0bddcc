"""A start for the student from what fits of its teacher: embeddings by projection, layers where the shapes agree."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from bort.architecture import Architecture


def initialise_from_teacher(model: Any, teacher: Any, student_shape: Architecture, teacher_shape: Architecture) -> None:
    """Writes what fits of the teacher's weights into a student.

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
    """Returns whether the two have equal widths, and the teacher's layers the parts of the student's under the same names."""
    layers = getattr(getattr(teacher, "encoder", None), "layer", None)
    # ELECTRA's embeddings may be narrower than its layers.
    widths = {student.config.hidden_size, teacher.config.hidden_size, teacher.get_input_embeddings().embedding_dim}
    named = layers is not None and layers[0].state_dict().keys() == student.encoder.layer[0].state_dict().keys()
    return named and len(widths) == 1


def _embeddings(teacher: Any) -> Any:
    """Returns the teacher's word and position embeddings under the names that BERT has for them."""
    own = getattr(teacher, "embeddings", None)
    return SimpleNamespace(
        word_embeddings=teacher.get_input_embeddings(), position_embeddings=getattr(own, "position_embeddings", None)
    )


def projection_matrix(embeddings: Tensor, hidden: int) -> Tensor:
    """Returns a matrix [H_teacher, H] that takes embeddings to the student's width with the least squared error.

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
    """Returns the first right singular vectors of centred embeddings [V, H], as columns [H, min(count, H)]."""
    _, vectors = torch.linalg.eigh(embeddings.T @ embeddings)
    return vectors.flip(1)[:, :count]


def project_embeddings(mine: Any, theirs: Any, matrix_for: Callable[[Tensor], Tensor]) -> None:
    """Writes a teacher's embeddings, taken to another width, into a student's.

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
