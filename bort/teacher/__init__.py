"""The teacher: an encoder of transformers, its masked-LM head if it has one, and its soft targets, computed once and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bort.lazy import lazily

if TYPE_CHECKING:
    from bort.teacher.build import build_targets
    from bort.teacher.config import HeadConfig, TargetConfig, TeacherConfig
    from bort.teacher.fit import fit_head, fit_identity
    from bort.teacher.load import load_teacher, load_tokenizer
    from bort.teacher.model import TargetBatch, Teacher
    from bort.teacher.targets import Targets, targets_identity

__all__ = [
    "HeadConfig",
    "TargetBatch",
    "TargetConfig",
    "Targets",
    "Teacher",
    "TeacherConfig",
    "build_targets",
    "fit_head",
    "fit_identity",
    "load_teacher",
    "load_tokenizer",
    "targets_identity",
]

_HOMES = {
    "HeadConfig": "config",
    "TargetBatch": "model",
    "TargetConfig": "config",
    "Targets": "targets",
    "Teacher": "model",
    "TeacherConfig": "config",
    "build_targets": "build",
    "fit_head": "fit",
    "fit_identity": "fit",
    "load_teacher": "load",
    "load_tokenizer": "load",
    "targets_identity": "targets",
}

__getattr__ = lazily(__name__, _HOMES)
