"""A start for the student from what fits of its teacher: embeddings by projection, layers where the shapes agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bort.architecture import Architecture


def initialise_from_teacher(model: Any, teacher: Any, student_shape: Architecture, teacher_shape: Architecture) -> None:
    """Writes what fits of the teacher's weights into a student of the same family.

    Where the hidden sizes are equal the embeddings are copied as they are, and a layer's attention (equal heads) and feed-forward
    part (equal intermediate size) are copied from layers spread evenly over the teacher, its last among them. Where they differ the
    embeddings are projected by :func:`projection_matrix` and layers keep their random weights. The draws come from torch's global
    generator, which the caller seeds.

    Args:
        model: The student, a masked LM of transformers.
        teacher: The teacher's encoder.
        student_shape: The student's shape.
        teacher_shape: The teacher's shape.
    """
    mine, theirs = model.base_model.embeddings, teacher.embeddings
    same = student_shape.hidden == teacher_shape.hidden
    with torch.no_grad():
        if same:
            mine.load_state_dict(theirs.state_dict(), strict=False)
        else:
            project_embeddings(mine, theirs, lambda words: projection_matrix(words, student_shape.hidden))
        if not same:
            return
        for index, layer in enumerate(model.base_model.encoder.layer):
            source = teacher.encoder.layer[(index + 1) * teacher_shape.depth // student_shape.depth - 1]
            if student_shape.heads == teacher_shape.heads:
                layer.attention.load_state_dict(source.attention.state_dict())
            if student_shape.intermediate == teacher_shape.intermediate:
                layer.intermediate.load_state_dict(source.intermediate.state_dict())
                layer.output.load_state_dict(source.output.state_dict())


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
        theirs: The teacher's.
        matrix_for: Returns the projection [H_teacher, H] for centred word embeddings [V, H_teacher].
    """
    words = theirs.word_embeddings.weight.detach()
    mean = words.mean(dim=0)
    matrix = matrix_for(words - mean)
    projected = (words - mean) @ matrix
    # One factor for all: the random weights' spread, to which the learning rate is tuned, with the teacher's proportions.
    factor = mine.word_embeddings.weight.std() / projected.std()
    mine.word_embeddings.weight.copy_(projected * factor)
    positions = theirs.position_embeddings.weight.detach()
    rows = min(len(positions), len(mine.position_embeddings.weight))
    mine.position_embeddings.weight[:rows] = (positions[:rows] @ matrix) * factor
    padding = mine.word_embeddings.padding_idx
    if padding is not None:
        mine.word_embeddings.weight[padding] = 0.0
