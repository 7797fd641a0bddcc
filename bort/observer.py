"""How the library tells its caller what is going on, without printing and without knowing who listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Observer(Protocol):
    """Listens to long work. Implementations must be cheap: they are called from inside training loops."""

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        """``done`` of ``total`` units of ``label`` are finished; ``note`` is a short figure such as ``loss 2.31``."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Figures of a learning curve at ``step``."""

    def warn(self, message: str) -> None:
        """One sentence the user should see."""


class Quiet:
    """An observer that ignores everything."""

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        """Ignores progress."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Ignores metrics."""

    def warn(self, message: str) -> None:
        """Ignores warnings."""
