"""Distillation: the losses, the student, the resumable training loop, and the estimator that a search asks for errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bort.lazy import lazily

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

__getattr__ = lazily(__name__, _HOMES)
