"""Distillation: the losses, the student, the resumable training loop, and the estimator that a search asks for errors."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bort.distillation.config import BudgetConfig, ImplConfig, LossConfig, StudentConfig, TrainConfig
    from bort.distillation.estimator import DistillEstimator
    from bort.distillation.student import StudentModel
    from bort.distillation.training import DistillResult, distill

__all__ = [
    "BudgetConfig",
    "DistillEstimator",
    "DistillResult",
    "ImplConfig",
    "LossConfig",
    "StudentConfig",
    "StudentModel",
    "TrainConfig",
    "distill",
]

_HOMES = {
    "BudgetConfig": "config",
    "DistillEstimator": "estimator",
    "DistillResult": "training",
    "ImplConfig": "config",
    "LossConfig": "config",
    "StudentConfig": "config",
    "StudentModel": "student",
    "TrainConfig": "config",
    "distill": "training",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the configuration alone must not cost the import of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
