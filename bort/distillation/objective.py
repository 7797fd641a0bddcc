"""The loss of a student on a batch, and its metrics on held-out blocks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bort.distillation.data import BatchSource
from bort.distillation.forward import Batch, ForwardPass, moved
from bort.distillation.heldout import HeldoutSums
from bort.distillation.losses import hidden_variance
from bort.distillation.setup import DistillationSetup
from bort.distillation.student import StudentModel
from bort.distillation.terms import INPUTS


class Objective:
    """The weighted sum of the terms of a loss.

    Args:
        setup: The loss, the teacher and the targets.
    """

    def __init__(self, setup: DistillationSetup) -> None:
        self.setup, self.loss = setup, setup.loss
        self._variances: dict[str, Tensor] = {}

    def measure_variances(self, source: BatchSource, device: torch.device) -> None:
        """Fix the units of normalized terms for the entire run, independent of batches and micro-batches."""
        normalized = {term.normalized: term.reads for term in self.loss.active.values() if term.normalized}
        if normalized:
            sample = self._with_targets(moved(source.sample(frozenset(normalized.values())), device))
            self._variances = {name: hidden_variance(sample[name]) for name in normalized}

    def terms(self, student: StudentModel, batch: Batch) -> dict[str, Tensor]:
        """Return each term of a weight above 0, before its weight, by name."""
        passes = self._passes(student, self._with_targets(batch) if self.loss.kinds else batch)
        return {name: term.loss(passes[term.reads], self.loss) for name, term in self.loss.active.items()}

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms."""
        return torch.stack([getattr(self.loss, name) * value for name, value in terms.items()]).sum()

    @torch.no_grad()
    def metrics(self, student: StudentModel, batches: Iterable[Batch], together: bool = False) -> dict[str, float]:
        """Return the held-out metrics that apply to this loss and to the targets of the batches.

        Args:
            student: The student; in evaluation mode until this returns.
            batches: Held-out batches.
            together: Whether each process of this training has a share of the batches, and the metrics are
                those of all.
        """
        training, sums = student.training, HeldoutSums()
        student.eval()
        try:
            for batch in batches:
                passes = self._passes(student, self._with_targets(batch))
                for term in self.loss.known().values():
                    if term.reads in passes:
                        term.measure(passes[term.reads], self.loss, sums)
        finally:
            student.train(training)
        if together:
            sums.bring_together()
        return sums.metrics()

    def _passes(self, student: StudentModel, batch: Batch) -> dict[str, ForwardPass]:
        """Return a forward pass for each input of the batch; none is computed before a term reads it."""
        arguments = student, self.setup.teacher, batch
        return {name: ForwardPass(*arguments, batch[ids], self._variances) for name, ids in INPUTS.items() if ids in batch}

    def _with_targets(self, batch: Batch) -> Batch:
        return batch if self.setup.online is None else self.setup.online.complete(batch)
