from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.finetuning.batches import evaluation_batches, training_batches
from bort.finetuning.encode import Encoded


@settings(max_examples=30)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=200), st.integers(1, 20), st.integers(0, 5))
def test_every_example_once_an_epoch_and_the_same_for_the_same_seed(lengths, batch_size, epoch):
    batches = training_batches(np.array(lengths), batch_size, 7, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(batch) <= batch_size for batch in batches)
    again = training_batches(np.array(lengths), batch_size, 7, epoch)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_buckets_pad_little():
    lengths = np.random.default_rng(0).integers(4, 64, size=1000)
    padded = sum(len(batch) * lengths[batch].max() for batch in training_batches(lengths, 16, 0, 0))
    assert padded / lengths.sum() < 1.1


def test_epochs_and_seeds_differ():
    lengths = np.arange(1, 100)
    first = np.concatenate(training_batches(lengths, 8, 0, 0)).tolist()
    assert first != np.concatenate(training_batches(lengths, 8, 0, 1)).tolist()
    assert first != np.concatenate(training_batches(lengths, 8, 1, 0)).tolist()


@settings(max_examples=30)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=100), st.integers(1, 300))
def test_evaluation_batches_hold_all_within_the_limit(lengths, tokens):
    sizes = np.array(lengths)
    batches = evaluation_batches(sizes, tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * sizes[batch].max() <= tokens for batch in batches)


def test_a_batch_is_padded_to_its_longest():
    data = Encoded({"input_ids": np.array([5, 6, 7, 8, 9, 4])}, np.array([0, 2, 5, 6]), np.zeros(3), {"input_ids": 1})
    made = data.batch([2, 1])
    assert made["input_ids"].tolist() == [[4, 1, 1], [7, 8, 9]]
    assert made["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
