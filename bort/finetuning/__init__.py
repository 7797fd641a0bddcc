"""Fine-tuning of an encoder on a task: heads, the training loop, the search over Θ, scores over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bort.finetuning.config import FinetuningConfig, Impl

if TYPE_CHECKING:
    from bort.finetuning.classifier import load_classifier
    from bort.finetuning.once import finetune_once
    from bort.finetuning.runs import finetune
    from bort.finetuning.scoring import evaluate

_HOMES = {"finetune": "runs", "finetune_once": "once", "evaluate": "scoring", "load_classifier": "classifier"}

__all__ = ["FinetuningConfig", "Impl", "evaluate", "finetune", "finetune_once", "load_classifier"]


def __getattr__(name: str) -> Any:
    # torch and transformers load only when training is asked for, so that a refused configuration answers at once.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"bort.finetuning.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
