from __future__ import annotations

from typing import Any

import pytest
import torch

from bort.architecture import Architecture
from bort.model_facts import COUNTS_FROM_PADDING, first_output, position_offset, usable_positions
from bort.teacher.config import FAMILIES, ROBERTA_LIKE

SHAPE = Architecture(1, 2, 8, 16)


def config(family: str, **special: Any) -> Any:
    return SHAPE.config(family, vocab_size=30, positions=6, **special)


@pytest.mark.parametrize(("family", "special"), [("bert", {}), ("roberta", {}), ("roberta", {"pad_token_id": 3})])
def test_usable_positions_is_the_longest_sequence_that_runs(family: str, special: dict[str, int]) -> None:
    from transformers import AutoModel

    made = config(family, **special)
    model = AutoModel.from_config(made).eval()
    assert usable_positions(made) == 6
    assert usable_positions(made, 4) == 4
    ids = torch.full((1, 7), 9)
    assert first_output(model, {"input_ids": ids[:, :6]}).shape == (1, 6, 8)
    with pytest.raises((IndexError, RuntimeError)):
        first_output(model, {"input_ids": ids})


def test_position_offset_agrees_with_the_families_that_teach() -> None:
    assert set(ROBERTA_LIKE) <= COUNTS_FROM_PADDING
    for model_type, family in FAMILIES.items():
        assert position_offset(model_type, 1) == (2 if family == "roberta" else 0)


def test_first_output_multiple_choice_returns_one_logit_per_sequence() -> None:
    from transformers import AutoModelForMultipleChoice

    model = AutoModelForMultipleChoice.from_config(config("bert")).eval()
    assert first_output(model, {"input_ids": torch.full((3, 5), 9)}).shape == (3, 1)
