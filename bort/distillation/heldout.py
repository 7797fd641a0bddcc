"""Sums over held-out batches, from which the reported metrics come."""

from __future__ import annotations

import torch
from torch import Tensor


class HeldoutSums:
    """Sums in float64 over all held-out batches, so that metrics do not depend on the batch size."""

    def __init__(self) -> None:
        self._means: dict[str, tuple[float, int]] = {}
        self._errors: dict[str, _NormalizedError] = {}

    def add(self, name: str, mean: Tensor, count: int) -> None:
        """Add a batch's mean of a metric.

        Args:
            name: The metric.
            mean: Its mean over the batch, a scalar.
            count: What the mean was taken over, such as the masked positions.
        """
        total, seen = self._means.get(name, (0.0, 0))
        self._means[name] = (total + float(mean) * count, seen + count)

    def add_error(self, name: str, student: Tensor, teacher: Tensor) -> None:
        """Add vectors [..., H] of a batch to a mean squared error in units of the teacher's variance."""
        self._errors.setdefault(name, _NormalizedError()).add(student, teacher)

    def bring_together(self) -> None:
        """Add the sums of all processes, in the order of their ranks, so that all end with the same bits."""
        shares: list[HeldoutSums] = [self] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(shares, self)
        for name in dict.fromkeys(name for share in shares for name in share._means):
            parts = [share._means[name] for share in shares if name in share._means]
            self._means[name] = sum(total for total, _ in parts), sum(count for _, count in parts)
        for name in dict.fromkeys(name for share in shares for name in share._errors):
            self._errors[name] = _NormalizedError.of([share._errors[name] for share in shares if name in share._errors])

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name."""
        means = {name: total / count for name, (total, count) in self._means.items()}
        return means | {name: error.value() for name, error in self._errors.items()}


class _NormalizedError:
    """Squared errors, and the first two moments of what they are compared with."""

    def __init__(self) -> None:
        self.squares, self.rows = 0.0, 0
        self.moments: list[Tensor] = []

    def add(self, student: Tensor, teacher: Tensor) -> None:
        exact = teacher.detach().flatten(0, -2).double()
        self.squares += float((student.flatten(0, -2).double() - exact).square().sum())
        moments = [exact.sum(0), exact.square().sum(0)]
        self.moments = [old + new for old, new in zip(self.moments, moments, strict=True)] if self.moments else moments
        self.rows += len(exact)

    @classmethod
    def of(cls, parts: list[_NormalizedError]) -> _NormalizedError:
        whole = cls()
        whole.squares, whole.rows = sum(part.squares for part in parts), sum(part.rows for part in parts)
        moments = zip(*(part.moments for part in parts), strict=True)
        whole.moments = [torch.stack([moment.cpu() for moment in same]).sum(0) for same in moments]
        return whole

    def value(self) -> float:
        mean, square = (moment / self.rows for moment in self.moments)
        variance = float((square - mean.square()).sum())
        return self.squares / self.rows / variance if variance > 0 else float("nan")
