"""Random streams: values recorded by the code that made earlier results."""

from __future__ import annotations

import numpy as np
import pytest

from bort.randomness import (
    below,
    draws,
    keyed_generator,
    named_generator,
    named_rank,
    named_seed,
    seeded_generator,
    seeds,
    stream_keys,
    uniform,
)


def test_draws_are_as_recorded() -> None:
    keys = stream_keys(7, 2, np.array([0, 1, 5]))
    assert keys.tolist() == [16080885708357838239, 3902865631490710457, 1665851410218707812]
    assert draws(keys, 0, 2).tolist() == [
        [12646378488828095451, 3941322016061554435],
        [16635535949859159841, 7912552413236151662],
        [4245633693838814014, 823130292972835921],
    ]
    assert below(draws(keys, 3, 2), 50265).tolist() == [[32429, 22627], [4065, 21703], [24884, 6304]]
    assert uniform(draws(keys, 1, 2)).tolist() == [
        [0.21365949461394418, 0.9470292210672789],
        [0.42894032581680275, 0.7821524566432415],
        [0.04462198259398886, 0.23086290249336117],
    ]


@pytest.mark.parametrize(("seed", "expected"), [(0, [135, 14, 937, 257]), (5, [864, 857, 150, 925]), (2**40, [168, 402, 858, 697])])
def test_seeded_generator_one_seed_is_as_recorded(seed: int, expected: list[int]) -> None:
    assert seeded_generator(seed).integers(0, 1000, 4).tolist() == expected


def test_seeded_generator_several_integers_is_as_recorded() -> None:
    assert seeded_generator(1, 99, 4, 17).choice(50, size=3, replace=False).tolist() == [30, 11, 1]


def test_seeds_are_as_recorded() -> None:
    assert seeds(1, 4, count=2) == [3549136632, 390818360]
    assert seeds(0, 0xD209, 12, 3, bits=64) == [11428695677234186625]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((3, 11), [7, 6, 5, 0, 4, 3, 1, 2]),
        ((3, 2), [7, 6, 4, 5, 1, 0, 3, 2]),
        ((9, (5 << 48) + 2), [4, 1, 0, 2, 6, 7, 5, 3]),
    ],
)
def test_keyed_generator_is_as_recorded(key: tuple[int, int], expected: list[int]) -> None:
    assert keyed_generator(*key).permutation(8).tolist() == expected


def test_keyed_generator_wide_key_is_as_recorded() -> None:
    assert keyed_generator(4, 0x7461626C65).random(2).tolist() == [0.005470572982534172, 0.34865163233208196]


def test_named_streams_are_as_recorded() -> None:
    expected = [0.02922068355369789, 0.08174136212744187, 0.9143025608744217]
    assert named_generator(3, "train-4", 1).random(3).tolist() == expected
    assert named_seed("study", 4, 1) == 7410582644047968830
    assert named_rank(0, "file:3", 2) == "0a5dcddbd6bccbfc7ab7bbfb8610cc06a7fc39ddd3349436bfd1215db417634e"
