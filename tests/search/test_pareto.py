"""Pareto front, hypervolume and rank correlation against what is slow and plain."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.search.pareto import hypervolume, kendall_tau, pareto_front

points = st.lists(st.tuples(*[st.integers(0, 6).map(float)] * 3), max_size=14)


def dominated(point: tuple[float, ...], others: list[tuple[float, ...]]) -> bool:
    return any(all(a <= b for a, b in zip(o, point, strict=True)) and o != point for o in others)


@settings(max_examples=150)
@given(points)
def test_front_is_what_nothing_dominates(rows: list[tuple[float, ...]]) -> None:
    assert pareto_front(rows) == [index for index, point in enumerate(rows) if not dominated(point, rows)]


@settings(max_examples=150)
@given(points)
def test_hypervolume_counts_unit_cubes(rows: list[tuple[float, ...]]) -> None:
    corner = (5.0, 6.0, 4.0)
    cubes = {
        (x, y, z)
        for px, py, pz in rows
        for x in range(int(px), 5)
        for y in range(int(py), 6)
        for z in range(int(pz), 4)
    }  # fmt: skip
    assert hypervolume(rows, corner) == pytest.approx(len(cubes))


@settings(max_examples=50)
@given(points, st.randoms(use_true_random=False))
def test_hypervolume_is_the_same_in_any_order(rows: list[tuple[float, ...]], draw: random.Random) -> None:
    odd = [tuple(value / 7.0 for value in row) for row in rows]
    assert hypervolume(draw.sample(odd, len(odd)), (0.7, 0.8, 0.6)) == hypervolume(odd, (0.7, 0.8, 0.6))


def test_hypervolume_equals_optunas() -> None:
    from optuna._hypervolume import compute_hypervolume

    draw = np.random.default_rng(0)
    for count in (1, 2, 9, 40, 200):
        rows = draw.random((count, 3))
        inside = rows[np.all(rows < [0.9, 1.0, 1.1], axis=1)]
        expected = compute_hypervolume(inside, np.array([0.9, 1.0, 1.1])) if len(inside) else 0.0
        assert hypervolume(rows.tolist(), (0.9, 1.0, 1.1)) == pytest.approx(float(expected))


def test_kendall_tau_equals_scipys() -> None:
    from scipy.stats import kendalltau

    draw = np.random.default_rng(1)
    for _ in range(60):
        count = int(draw.integers(2, 300))
        first = draw.integers(0, draw.integers(2, 400), count).astype(float)
        second = np.round(first * draw.random() + draw.normal(0, 3, count), int(draw.integers(0, 3)))
        expected = kendalltau(first, second).statistic
        found = kendall_tau(first.tolist(), second.tolist())
        assert (found is None and np.isnan(expected)) or found == pytest.approx(expected, abs=1e-12)


def test_no_correlation_where_nothing_differs() -> None:
    assert kendall_tau([1.0], [2.0]) is None
    assert kendall_tau([1.0, 1.0], [2.0, 3.0]) is None
    assert kendall_tau([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == -1.0
