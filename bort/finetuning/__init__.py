"""Fine-tuning of an encoder on a task: heads, the training loop, the search over Θ, scores over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bort.finetuning.config import FinetuningConfig, Impl
from bort.lazy import lazily

if TYPE_CHECKING:
    from bort.finetuning.classifier import load_classifier
    from bort.finetuning.once import finetune_once
    from bort.finetuning.runs import finetune
    from bort.finetuning.scoring import evaluate

_HOMES = {"finetune": "runs", "finetune_once": "once", "evaluate": "scoring", "load_classifier": "classifier"}

__all__ = ["FinetuningConfig", "Impl", "evaluate", "finetune", "finetune_once", "load_classifier"]

__getattr__ = lazily(__name__, _HOMES)
