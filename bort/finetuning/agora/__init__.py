"""Agora: fine-tuning on what a model gets wrong, with points made by generators and labelled by a model that is only so good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bort.finetuning.agora.config import AgoraConfig, LabellerConfig

if TYPE_CHECKING:
    from bort.finetuning.agora.benchmark import run_benchmark
    from bort.finetuning.agora.runs import finetune_agora

__all__ = ["AgoraConfig", "LabellerConfig", "finetune_agora", "run_benchmark"]

_HOMES = {"finetune_agora": "runs", "run_benchmark": "benchmark"}


def __getattr__(name: str) -> Any:
    # torch and transformers load only when training is asked for, so that a refused configuration answers at once.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"bort.finetuning.agora.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
