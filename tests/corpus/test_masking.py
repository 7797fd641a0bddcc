from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from bort.corpus.masking import MaskingConfig, mask_blocks
from bort.corpus.tokenizer import CONTINUED, CONTINUES
from bort.errors import ConfigurationError
from bort.settings import check_settings

SPECIAL = {"cls": 2, "sep": 3, "pad": 0, "mask": 4, "unk": 1}
VOCABULARY = 1000


def make_blocks(count: int, length: int, seed: int = 0) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(5, VOCABULARY, size=(count, length))
    blocks[:, 0], blocks[:, -1] = SPECIAL["cls"], SPECIAL["sep"]
    return blocks


@settings(max_examples=30)
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


def test_masks_of_earlier_versions_do_not_change():
    # Soft targets on disk stand for these masks. The digest was taken with the first version of this room.
    blocks = make_blocks(16, 64)
    blocks[:, 9], blocks[3:5, 20:30] = SPECIAL["unk"], SPECIAL["sep"]
    masked = mask_blocks(blocks, np.arange(16), np.arange(16) % 3, MaskingConfig(seed=7), SPECIAL, VOCABULARY)
    content = b"".join(value.astype("<i8").tobytes() for value in (masked.input_ids, masked.positions, masked.labels))
    assert hashlib.sha256(content).hexdigest()[:16] == "a3758533725180ff"


def test_each_fate_is_within_binomial_bounds_of_its_share():
    for seed, config in enumerate((MaskingConfig(), MaskingConfig(random=0.5, keep=0.0), MaskingConfig(random=0.0, keep=0.25))):
        blocks = make_blocks(500, 66, seed)
        masked = mask_blocks(blocks, np.arange(500), 1, replace(config, seed=seed), SPECIAL, VOCABULARY)
        tokens = np.take_along_axis(masked.input_ids, masked.positions, axis=1)
        count = tokens.size
        # A random token is the one that stood there once in 995 times.
        same = config.keep + config.random / (VOCABULARY - len(SPECIAL))
        for often, share in (
            (int((tokens == SPECIAL["mask"]).sum()), 1.0 - config.random - config.keep),
            (int((tokens == masked.labels).sum()), same),
        ):
            # Wrong once in a million: the draws are fixed, so that a test that passes keeps passing.
            assert binom.cdf(often, count, share) > 1e-6
            assert binom.sf(often - 1, count, share) > 1e-6


#: Three words of one to four tokens: 5 begins a word, 6 goes on with one; 7 stands alone and nothing goes on from it.
WORDS = np.zeros(VOCABULARY, dtype=np.uint8)
WORDS[5], WORDS[6] = CONTINUED, CONTINUED | CONTINUES


def word_numbers(row: np.ndarray) -> np.ndarray:
    """The word of each token, told the plain way."""
    numbers, current = [], -1
    for before, token in zip([None, *row[:-1]], row, strict=True):
        if not (token == 6 and before in (5, 6)):
            current += 1
        numbers.append(current)
    return np.array(numbers)


@settings(max_examples=40)
@given(data=st.data(), length=st.integers(10, 80), probability=st.floats(0.02, 0.4), seed=st.integers(0, 2**40))
def test_whole_words_are_masked_whole(data: st.DataObject, length: int, probability: float, seed: int):
    row = st.lists(st.sampled_from([5, 6, 6, 7]), min_size=length - 2, max_size=length - 2)
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    blocks = np.array([[SPECIAL["cls"], *row, SPECIAL["sep"]] for row in rows])
    config = MaskingConfig(probability=probability, seed=seed, whole_words=True)
    indices = np.arange(len(blocks)) + seed % 7
    masked = mask_blocks(blocks, indices, 2, config, SPECIAL, VOCABULARY, WORDS)
    assert masked.positions.shape == (len(blocks), config.positions(length))
    assert (np.diff(masked.positions, axis=1) > 0).all()
    assert not np.isin(masked.labels, list(SPECIAL.values())).any()
    for number, row in enumerate(blocks):
        words = word_numbers(row)
        chosen = np.zeros(length, dtype=bool)
        chosen[masked.positions[number]] = True
        cut = [word for word in set(words[chosen]) if not chosen[words == word].all()]
        assert len(cut) <= 1
        for word in cut:
            # The last word is cut at its end.
            assert (np.diff(chosen[words == word].astype(int)) <= 0).all()
        alone = mask_blocks(row[None], indices[[number]], 2, config, SPECIAL, VOCABULARY, WORDS)
        assert (alone.input_ids[0] == masked.input_ids[number]).all()


def test_words_are_chosen_evenly():
    blocks = np.tile(np.array([2, 5, 6, 6, 7, 5, 6, 7, 7, 5, 6, 3]), (4000, 1))
    masked = mask_blocks(blocks, np.arange(4000), 0, MaskingConfig(probability=0.1, whole_words=True), SPECIAL, VOCABULARY, WORDS)
    # One position a block: the first of any of the six words.
    often = np.bincount(masked.positions.ravel(), minlength=12)
    assert np.flatnonzero(often).tolist() == [1, 4, 5, 7, 8, 9]
    assert often[often > 0] == pytest.approx(np.full(6, 4000 / 6), rel=0.12)


def test_whole_words_without_marks_are_refused():
    with pytest.raises(ConfigurationError, match=r"masking\.whole_words=True.*the corpus is built again"):
        mask_blocks(make_blocks(1, 16), np.arange(1), 0, MaskingConfig(whole_words=True), SPECIAL, VOCABULARY)


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
        check_settings(config, "masking")
    assert refused.value.key == key
