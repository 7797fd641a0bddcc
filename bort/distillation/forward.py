"""One forward pass of the student over one input of a batch, with the teacher's outputs beside it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bort.distillation.student import Encoded, Relations, StudentModel

if TYPE_CHECKING:
    from bort.teacher.model import Teacher

#: Tensors by name: ``input_ids`` [B, S]; ``masked_ids`` [B, S], ``positions`` and ``labels`` [B, K]; the
#: targets' own names, and ``kept_…`` [B, K, n] for the form ``topk``; ``teacher_relations`` [3, B, S, H] from a
#: relation memory.
Batch = dict[str, Tensor]


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device."""
    return batch if device.type == "cpu" else {name: tensor.to(device) for name, tensor in batch.items()}


class ForwardPass:
    """What the terms that read the same input share; everything is computed when it is first read, and once.

    Args:
        student: The student.
        teacher: Computes logits and relations from cached targets. It is on the device of the batch.
        batch: The batch with its targets.
        input_ids: The tensor of it that the student reads, [B, S].
        variances: Variances of target tensors over a sample of training blocks, by name.
    """

    def __init__(
        self,
        student: StudentModel,
        teacher: Teacher,
        batch: Batch,
        input_ids: Tensor,
        variances: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self.student, self.teacher, self.batch, self.input_ids, self.variances = student, teacher, batch, input_ids, variances

    @cached_property
    def _encoded(self) -> Encoded:
        return self.student.encode(self.input_ids, relations=True)

    @property
    def hidden(self) -> Tensor:
        """The student's last hidden states, [B, S, H]."""
        return self._encoded.hidden

    @property
    def relations(self) -> Relations:
        """Queries, keys and values of the student's last layer, [B, S, H] each."""
        assert self._encoded.relations is not None
        return self._encoded.relations

    @cached_property
    def projected(self) -> Tensor:
        """The student's last hidden states, projected to the teacher's width, [B, S, H′]."""
        assert self.student.projection is not None, "the student of a loss with a projecting term has a projection"
        projected: Tensor = self.student.projection(self.hidden)
        return projected

    @cached_property
    def logits(self) -> Tensor:
        """The student's logits at the masked positions, [B, K, V]."""
        return self.student.logits(self.hidden, self.batch["positions"])

    @property
    def labels(self) -> Tensor:
        """The masked tokens, [B, K]."""
        return self.batch["labels"]

    def accuracy(self, logits: Tensor) -> Tensor:
        """Return the share of masked tokens that have the largest of the logits [B, K, V]."""
        return (logits.argmax(-1) == self.labels).double().mean()

    @cached_property
    @torch.no_grad()
    def teacher_logits(self) -> Tensor | None:
        """The teacher's logits at the masked positions, [B, K, V]; ``None`` if the targets are sparse or none."""
        if "logits" in self.batch:
            return self.batch["logits"]
        return self.teacher.logits(self.batch["transformed"]) if "transformed" in self.batch else None

    @cached_property
    @torch.no_grad()
    def teacher_relations(self) -> Relations:
        """Queries, keys and values of the teacher's last layer, [B, S, H′] each."""
        if "teacher_relations" in self.batch:
            query, key, value = self.batch["teacher_relations"]
            return query, key, value
        return self.teacher.relation_inputs(self.batch["layer_input"])
