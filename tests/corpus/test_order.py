from __future__ import annotations

import numpy as np
import pytest

from bort.corpus.order import BlockOrder
from bort.errors import ConfigurationError
from bort.randomness import below, draws, stream_keys, uniform


def test_each_epoch_is_a_permutation_and_batches_leave_no_gap():
    order = BlockOrder(count=10, batch_size=4, seed=3)
    epochs, indices = (np.concatenate(rows) for rows in zip(*(order.batch(step) for step in range(10)), strict=True))
    for epoch in range(4):
        assert sorted(indices[epochs == epoch]) == list(range(10))
    assert epochs.tolist() == sorted(epochs.tolist())
    assert indices[:10].tolist() != indices[10:20].tolist()


def test_any_step_can_be_computed_alone():
    whole = BlockOrder(count=13, batch_size=5, seed=1)
    batches = [whole.batch(step) for step in range(20)]
    for step in (19, 3, 0, 12):
        epochs, indices = BlockOrder(count=13, batch_size=5, seed=1).batch(step)
        assert (epochs == batches[step][0]).all()
        assert (indices == batches[step][1]).all()


def test_seeds_give_different_orders():
    assert BlockOrder(50, 50, 0).batch(0)[1].tolist() != BlockOrder(50, 50, 1).batch(0)[1].tolist()


def test_a_corpus_smaller_than_a_batch_is_refused():
    with pytest.raises(ConfigurationError, match=r"train\.batch_size=8.*in \[1, 5\]"):
        BlockOrder(5, 8, 0)
    with pytest.raises(ConfigurationError, match="a corpus that has blocks"):
        BlockOrder(0, 1, 0)


def test_draws_are_those_of_splitmix64():
    # The first three outputs of the generator seeded with 1234567, as published with its reference code.
    values = draws(np.array([1234567], dtype=np.uint64), 0, 3)[0]
    assert values.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_draws_are_uniform_and_independent_of_the_batch():
    keys = stream_keys(7, np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert len(set(keys.tolist())) == 3
    assert (draws(keys, 5, 4)[1] == draws(stream_keys(7, 0, 1), 0, 9)[0, 5:]).all()
    values = uniform(draws(stream_keys(0, 0, np.arange(2000)), 0, 50)).ravel()
    assert 0.0 <= values.min() < values.max() < 1.0
    assert abs(values.mean() - 0.5) < 0.005
    numbers = below(draws(stream_keys(1, np.arange(5000)), 0, 10), 7)
    assert np.bincount(numbers.ravel(), minlength=7).tolist() == pytest.approx([50_000 / 7] * 7, rel=0.05)
