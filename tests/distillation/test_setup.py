"""What fixes a training: its identity is the one that finished studies and stage folders were written with."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bort.corpus.config import MaskingConfig
from bort.distillation.config import StudentConfig, TrainConfig
from bort.distillation.setup import DistillationSetup
from bort.distillation.terms import LossConfig
from bort.files import digest

TEACHER: Any = SimpleNamespace(digest="teacher")
CORPUS: Any = SimpleNamespace(digest="corpus")
TARGETS: Any = SimpleNamespace(record={"identity": {"kind": "both", "blocks": 7}}, kind="both")
SETUP = DistillationSetup(
    TEACHER, CORPUS, TARGETS, MaskingConfig(), LossConfig(hidden=1.0, relations=1.0), TrainConfig(), StudentConfig("1-2-8-12"), 3
)


@pytest.mark.parametrize(
    ("changes", "recorded"),
    [
        ({}, "0ba35afc7ea766af"),
        ({"targets": None, "loss": LossConfig(masked_lm=1.0, temperature=1.0)}, "a12e5529e7cf24ef"),
        ({"train": TrainConfig(batch_size=4, schedule="cosine", blocks=5), "seed": 4}, "39bd0bb31cd2c4af"),
        ({"student": StudentConfig("2-2-8-12", "teacher", 0.1), "masking": MaskingConfig(seed=5)}, "a9c97e2b7685037a"),
    ],
)
def test_identity_equals_the_recorded_one(changes: dict[str, Any], recorded: str) -> None:
    """Digests recorded before this class existed; a change of any would orphan every study and folder of a user."""
    assert digest(replace(SETUP, **changes).identity())[:16] == recorded
