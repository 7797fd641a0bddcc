"""Longest common subsequences and what they take out of Θ."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from bort.finetuning.agora.prune import PRUNERS, common, prune_halving, prune_lcs

SETS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=8)


def is_subsequence(one, other):
    rest = iter(other)
    return all(item in rest for item in one)


@given(st.lists(st.integers(0, 3), max_size=7), st.lists(st.integers(0, 3), max_size=7))
def test_the_common_subsequence_is_the_longest(one, other):
    found = common(one, other)
    assert is_subsequence(found, one)
    assert is_subsequence(found, other)
    every = (list(part) for size in range(len(one), -1, -1) for part in combinations(one, size))
    assert len(found) == len(next(part for part in every if is_subsequence(part, other)))


@given(SETS)
def test_every_way_of_pruning_drops_the_worst_and_ends(sets):
    for prune in PRUNERS.values():
        dropped = prune(sets)
        assert 0 in dropped
        assert len(set(dropped)) == len(dropped)
        assert set(dropped) <= set(range(len(sets)))


def test_all_that_share_the_longest_sequence_with_the_worst_go_with_it():
    worst, near, far, other = (
        (("lr", 1), ("wd", 0), ("b", 8)),
        (("lr", 1), ("wd", 0), ("b", 16)),
        (("lr", 2), ("wd", 0), ("b", 8)),
        (),
    )
    assert prune_lcs([worst, far, near]) == [0, 1]  # two values shared with either: the next worst decides
    assert prune_lcs([worst, near, far]) == [0, 1]
    assert prune_lcs([worst, other]) == [0]
    assert prune_lcs([worst]) == [0]


def test_a_product_of_two_by_two_takes_two_iterations():
    sets = [(("lr", rate), ("wd", decay)) for rate in (1, 2) for decay in (0, 1)]
    dropped = prune_lcs(sets)
    assert len(dropped) == 2
    assert prune_lcs([one for place, one in enumerate(sets) if place not in dropped]) == [0, 1]


def test_halving_drops_the_worse_half():
    assert prune_halving([(1,), (2,), (3,), (4,), (5,)]) == [0, 1, 2]
    assert prune_halving([(1,)]) == [0]
