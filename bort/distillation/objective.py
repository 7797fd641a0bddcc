"""A batch to its loss terms, and the held-out blocks to the figures that are reported."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bort.distillation.data import Batch
from bort.distillation.losses import (
    hidden_mse,
    hidden_variance,
    kl_divergence,
    masked_lm_cross_entropy,
    relation_loss,
    soft_cross_entropy,
    sparse_kl_divergence,
    sparse_soft_cross_entropy,
)
from bort.distillation.setup import DistillationSetup
from bort.distillation.student import Relations, StudentModel


class Objective:
    """The loss of a student on a batch.

    Args:
        setup: Weights and settings of the terms; the teacher, on the device of the batches; the targets.
    """

    def __init__(self, setup: DistillationSetup) -> None:
        self.loss, self.teacher, self.online = setup.loss, setup.teacher, setup.online
        self._variance: Tensor | None = None

    def measure_variance(self, sample: Batch) -> None:
        """Fixes the unit of ``hidden``: one number for the whole run, so that a step may be cut into parts.

        Args:
            sample: Training blocks as they are, with their hidden states or for a teacher that runs along.
        """
        self._variance = hidden_variance(self._completed(sample)["hidden"])

    def terms(self, student: StudentModel, batch: Batch) -> dict[str, Tensor]:
        """Returns each term that has a weight, unweighted, by its name.

        Raises:
            BortError: The relation heads do not divide the hidden sizes.
        """
        loss, terms = self.loss, {}
        if loss.targets is not None:
            batch = self._completed(batch)
        if loss.masked:
            hidden = student.encode(batch["masked_ids"]).hidden
            logits = student.logits(hidden, batch["positions"])
            if loss.masked_lm > 0:
                terms["masked_lm"] = masked_lm_cross_entropy(logits, batch["labels"])
            if loss.soft_targets > 0:
                terms["soft_targets"] = self._soft_targets(logits, batch)
        if loss.whole:
            encoded = student.encode(batch["input_ids"], relations=loss.relations > 0)
            if loss.hidden > 0 and student.projection is not None:
                terms["hidden"] = hidden_mse(student.projection(encoded.hidden), batch["hidden"], self._variance)
            if loss.relations > 0 and encoded.relations is not None:
                relations = self._teacher_relations(batch)
                terms["relations"] = relation_loss(encoded.relations, relations, loss.relation_heads)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Returns the weighted sum of the terms."""
        return torch.stack([getattr(self.loss, name) * value for name, value in terms.items()]).sum()

    @torch.no_grad()
    def figures(self, student: StudentModel, batches: Iterable[Batch], together: bool = False) -> dict[str, float]:
        """Returns the held-out figures that apply to this loss and to what the batches hold.

        ``mlm_accuracy`` and ``cross_entropy`` (in nats a masked token) where the student has learned masked tokens; ``kl`` to the
        teacher's distribution at temperature 1 and the teacher's own two figures where there are soft targets; ``relation_kl`` and
        ``relation_cross_entropy`` where there are representations and the relation heads fit; ``hidden_mse`` where the student has
        learned a projection. Sums are taken in float64 over all blocks, so that the size of the batches does not matter.

        Args:
            student: The student; it is put into evaluation mode for a while.
            batches: Held-out batches.
            together: Whether the processes of this training have the batches in shares, and bring their sums together.
        """
        training, sums = student.training, _Sums()
        student.eval()
        try:
            for plain in batches:
                batch = self._completed(plain)
                if "masked_ids" in batch:
                    self._masked_figures(student, batch, sums)
                if "input_ids" in batch:
                    self._whole_figures(student, batch, sums)
        finally:
            student.train(training)
        if together:
            sums.bring_together()
        return sums.figures()

    def _completed(self, batch: Batch) -> Batch:
        return batch if self.online is None else self.online.complete(batch)

    def _teacher_relations(self, batch: Batch) -> Relations:
        if "teacher_relations" in batch:
            query, key, value = batch["teacher_relations"]
            return query, key, value
        with torch.no_grad():
            return self.teacher.relation_inputs(batch["layer_input"])

    def _soft_targets(self, logits: Tensor, batch: Batch) -> Tensor:
        temperature = self.loss.temperature
        teacher_logits = self._teacher_logits(batch)
        if teacher_logits is None:
            return sparse_soft_cross_entropy(logits, batch["kept_ids"], batch["kept_weights"], temperature)
        return soft_cross_entropy(logits, teacher_logits, temperature)

    @torch.no_grad()
    def _teacher_logits(self, batch: Batch) -> Tensor | None:
        """Returns all of the teacher's logits, where they can be had."""
        if "logits" in batch:
            return batch["logits"]
        return self.teacher.logits(batch["transformed"]) if "transformed" in batch else None

    def _masked_figures(self, student: StudentModel, batch: Batch, sums: _Sums) -> None:
        labels = batch["labels"]
        logits = student.logits(student.encode(batch["masked_ids"]).hidden, batch["positions"])
        if self.loss.masked:
            sums.add("mlm_accuracy", (logits.argmax(-1) == labels).double().mean(), labels.numel())
            sums.add("cross_entropy", masked_lm_cross_entropy(logits, labels), labels.numel())
        teacher_logits = self._teacher_logits(batch)
        if teacher_logits is not None:
            sums.add("teacher_mlm_accuracy", (teacher_logits.argmax(-1) == labels).double().mean(), labels.numel())
            sums.add("teacher_cross_entropy", masked_lm_cross_entropy(teacher_logits, labels), labels.numel())
            if self.loss.masked:
                sums.add("kl", kl_divergence(logits, teacher_logits), labels.numel())
        elif "kept_ids" in batch:
            ids = batch["kept_ids"]
            sums.add("teacher_mlm_accuracy", (ids[..., 0] == labels).double().mean(), labels.numel())
            sums.add("teacher_cross_entropy", batch["teacher_label_surprise"].mean(), labels.numel())
            if self.loss.masked:
                divergence = sparse_kl_divergence(logits, ids, batch["kept_weights"], batch["kept_log_probabilities"])
                sums.add("kl", divergence, labels.numel())

    def _whole_figures(self, student: StudentModel, batch: Batch, sums: _Sums) -> None:
        heads, blocks = self.loss.relation_heads, len(batch["input_ids"])
        widths = (student.model.config.hidden_size, batch["layer_input"].shape[-1])
        relations = all(width % heads == 0 for width in widths)
        encoded = student.encode(batch["input_ids"], relations=relations)
        if encoded.relations is not None:
            theirs = self._teacher_relations(batch)
            sums.add("relation_kl", relation_loss(encoded.relations, theirs, heads, "kl"), blocks)
            sums.add("relation_cross_entropy", relation_loss(encoded.relations, theirs, heads, "cross_entropy"), blocks)
        if self.loss.hidden > 0 and student.projection is not None:
            sums.add_hidden(student.projection(encoded.hidden), batch["hidden"])


class _Sums:
    """Weighted sums of means, and the moments of hidden states."""

    def __init__(self) -> None:
        self.totals: dict[str, tuple[float, int]] = {}
        self.squares = 0.0
        self.moments: list[Tensor] = []
        self.rows = 0

    def add(self, name: str, mean: Tensor, count: int) -> None:
        total, seen = self.totals.get(name, (0.0, 0))
        self.totals[name] = (total + float(mean) * count, seen + count)

    def add_hidden(self, student: Tensor, teacher: Tensor) -> None:
        exact = teacher.detach().flatten(0, -2).double()
        self.squares += float((student.flatten(0, -2).double() - exact).square().sum())
        moments = [exact.sum(0), exact.square().sum(0)]
        self.moments = [old + new for old, new in zip(self.moments, moments, strict=True)] if self.moments else moments
        self.rows += len(exact)

    def bring_together(self) -> None:
        """Adds the sums of all processes, in the order of their numbers, so that all end with the same bits."""
        shares: list[_Sums] = [self] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(shares, self)
        names = dict.fromkeys(name for share in shares for name in share.totals)
        self.totals = {}
        for name in names:
            parts = [share.totals[name] for share in shares if name in share.totals]
            self.totals[name] = (sum(total for total, _ in parts), sum(count for _, count in parts))
        self.squares, self.rows = sum(share.squares for share in shares), sum(share.rows for share in shares)
        moments = [share.moments for share in shares if share.moments]
        self.moments = [torch.stack([part.cpu() for part in parts]).sum(0) for parts in zip(*moments, strict=True)]

    def figures(self) -> dict[str, float]:
        figures = {name: total / count for name, (total, count) in self.totals.items()}
        if self.rows:
            mean, square = (moment / self.rows for moment in self.moments)
            variance = float((square - mean.square()).sum())
            figures["hidden_mse"] = self.squares / self.rows / variance if variance > 0 else float("nan")
        return figures
