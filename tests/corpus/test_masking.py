from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.corpus.masking import MaskingConfig, mask_blocks
from bort.errors import ConfigurationError

SPECIAL = {"cls": 2, "sep": 3, "pad": 0, "mask": 4, "unk": 1}
VOCABULARY = 1000


def make_blocks(count: int, length: int, seed: int = 0) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(5, VOCABULARY, size=(count, length))
    blocks[:, 0], blocks[:, -1] = SPECIAL["cls"], SPECIAL["sep"]
    return blocks


@settings(max_examples=30, deadline=None)
@given(length=st.integers(8, 130), probability=st.floats(0.01, 0.4), epoch=st.integers(0, 2**40), seed=st.integers(0, 2**63))
def test_shape_and_content(length: int, probability: float, epoch: int, seed: int):
    blocks = make_blocks(3, length)
    config = MaskingConfig(probability=probability, seed=seed)
    masked = mask_blocks(blocks, np.arange(3), epoch, config, SPECIAL, VOCABULARY)
    count = max(1, round(probability * (length - 2)))
    assert masked.positions.shape == masked.labels.shape == (3, count)
    assert (np.diff(masked.positions, axis=1) > 0).all()
    assert (np.take_along_axis(blocks, masked.positions, axis=1) == masked.labels).all()
    untouched = np.ones_like(blocks, dtype=bool)
    np.put_along_axis(untouched, masked.positions, False, axis=1)
    assert (masked.input_ids == blocks)[untouched].all()
    assert not np.isin(masked.labels, list(SPECIAL.values())).any()


def test_a_mask_depends_on_seed_epoch_and_index_alone():
    blocks = make_blocks(40, 64)
    config = MaskingConfig(seed=5)
    whole = mask_blocks(blocks, np.arange(40), 3, config, SPECIAL, VOCABULARY)
    chosen = np.array([31, 2, 17])
    epochs = np.array([3, 3, 3])
    part = mask_blocks(blocks[chosen], chosen, epochs, config, SPECIAL, VOCABULARY)
    assert (part.input_ids == whole.input_ids[chosen]).all()
    assert (part.positions == whole.positions[chosen]).all()
    for other in (
        mask_blocks(blocks, np.arange(40), 4, config, SPECIAL, VOCABULARY),
        mask_blocks(blocks, np.arange(40), 3, MaskingConfig(seed=6), SPECIAL, VOCABULARY),
        mask_blocks(blocks, np.arange(1, 41), 3, config, SPECIAL, VOCABULARY),
    ):
        assert (other.positions != whole.positions).any(axis=1).mean() > 0.9


def test_four_fifths_are_masked_a_tenth_random_and_a_tenth_kept():
    blocks = make_blocks(2000, 128)
    masked = mask_blocks(blocks, np.arange(2000), 0, MaskingConfig(), SPECIAL, VOCABULARY)
    tokens = np.take_along_axis(masked.input_ids, masked.positions, axis=1)
    is_mask, is_kept = tokens == SPECIAL["mask"], tokens == masked.labels
    assert is_mask.mean() == pytest.approx(0.8, abs=0.01)
    assert is_kept.mean() == pytest.approx(0.1, abs=0.01)
    replaced = tokens[~is_mask & ~is_kept]
    assert replaced.size / tokens.size == pytest.approx(0.1, abs=0.01)
    assert not np.isin(replaced, list(SPECIAL.values())).any()
    assert len(np.unique(replaced)) > 900
    # Every inner position is chosen about as often as any other.
    often = np.bincount(masked.positions.ravel(), minlength=128)[1:-1]
    assert often == pytest.approx(np.full(126, often.mean()), rel=0.3)


def test_separators_are_never_masked_and_unknown_tokens_come_last():
    blocks = make_blocks(4, 22)
    blocks[:, 3:9] = SPECIAL["sep"]
    blocks[:, 9:18] = SPECIAL["unk"]
    masked = mask_blocks(blocks, np.arange(4), 0, MaskingConfig(probability=0.2), SPECIAL, VOCABULARY)
    assert not np.isin(masked.labels, [SPECIAL["sep"], SPECIAL["unk"]]).any()
    crowded = mask_blocks(blocks, np.arange(4), 0, MaskingConfig(probability=0.4), SPECIAL, VOCABULARY)
    assert (crowded.labels == SPECIAL["unk"]).sum(axis=1).tolist() == [3] * 4
    assert not (crowded.labels == SPECIAL["sep"]).any()


def test_too_few_ordinary_tokens_are_refused():
    blocks = make_blocks(2, 22)
    blocks[1, 2:-1] = SPECIAL["sep"]
    with pytest.raises(ConfigurationError, match=r"masking\.probability=0\.15.*fewer than 3"):
        mask_blocks(blocks, np.arange(2), 0, MaskingConfig(), SPECIAL, VOCABULARY)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (MaskingConfig(probability=0.0), "masking.probability"),
        (MaskingConfig(probability=0.6), "masking.probability"),
        (MaskingConfig(random=-0.1), "masking.random"),
        (MaskingConfig(keep=1.1), "masking.keep"),
        (MaskingConfig(random=0.6, keep=0.6), "masking.random"),
        (MaskingConfig(seed=-1), "masking.seed"),
    ],
)
def test_settings_out_of_range_are_refused(config: MaskingConfig, key: str):
    with pytest.raises(ConfigurationError) as refused:
        config.check()
    assert refused.value.key == key
