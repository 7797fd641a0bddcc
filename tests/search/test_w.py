"""W, its factors, its inverse and the order that it gives, against plain fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.architecture import BORT, BORT_PUBLISHED, ROBERTA_LARGE
from bort.errors import BortError, ConfigurationError
from bort.search.w import COMPLEMENT, RECIPROCAL, ErrorScale, check_winner, error_for, first, precedence, ranked, savings, w
from tests.search.w_reference import exact_savings, exact_w

RELATIVE = ErrorScale("relative", e_max=0.25)

counts = st.integers(min_value=1, max_value=10**9)
latencies = st.floats(min_value=1e-3, max_value=1e12)
errors = st.floats(min_value=1e-6, max_value=1e6)
saved = st.floats(min_value=1e-6, max_value=1.0)
scales = st.one_of(
    st.just(RECIPROCAL), st.just(COMPLEMENT), st.builds(ErrorScale, st.just("relative"), st.floats(min_value=1e-3, max_value=1e3))
)


@given(p=counts, i=latencies, p_max=counts, i_max=latencies, e=errors, scale=scales)
def test_w_equals_the_formula_in_fractions(p: int, i: float, p_max: int, i_max: float, e: float, scale: ErrorScale) -> None:
    exact = exact_savings(p, i, p_max, i_max)
    assert savings(p, i, p_max, i_max) == pytest.approx(float(exact), rel=1e-9, abs=1e-15)
    expected = exact_w(exact, e, scale.name, scale.e_max)
    assert w(float(exact), e, scale) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


@given(p=counts, i=latencies, p_max=counts, i_max=latencies, factor=st.sampled_from([0.125, 0.5, 2.0, 1024.0]))
def test_savings_do_not_depend_on_units(p: int, i: float, p_max: int, i_max: float, factor: float) -> None:
    assert savings(p * factor, i, p_max * factor, i_max) == savings(p, i, p_max, i_max)
    assert savings(p, i * factor, p_max, i_max * factor) == savings(p, i, p_max, i_max)


@given(s=saved, e=errors, e_max=st.floats(min_value=1e-3, max_value=1e3), factor=st.sampled_from([0.25, 2.0, 64.0]))
def test_w_scales_with_the_unit_of_the_error(s: float, e: float, e_max: float, factor: float) -> None:
    assert w(s, e * factor) == pytest.approx(w(s, e) / factor, rel=1e-12)
    relative, other = ErrorScale("relative", e_max), ErrorScale("relative", e_max * factor)
    assert w(s, e * factor, other) == w(s, e, relative)


@given(p=counts, i=latencies, less=st.floats(min_value=0.0, max_value=1.0), e=errors, scale=scales)
def test_w_falls_with_p_i_and_e(p: int, i: float, less: float, e: float, scale: ErrorScale) -> None:
    p_max, i_max = 1.5 * p, 1.5 * i
    base = w(savings(p, i, p_max, i_max), e, scale)
    assert w(savings(p * less, i, p_max, i_max), e, scale) >= base
    assert w(savings(p, i * less, p_max, i_max), e, scale) >= base
    assert w(savings(p, i, p_max, i_max), max(e * less, 1e-9), scale) >= base
    assert base >= 0


@given(s=saved, e=errors, scale=scales, exponent=st.sampled_from([0.5, 1.0, 2.0]))
def test_error_for_inverts_w(s: float, e: float, scale: ErrorScale, exponent: float) -> None:
    scale = ErrorScale(scale.name, scale.e_max, exponent)
    value = w(s, e, scale)
    error = error_for(value, s, scale)
    if scale.name == "complement":
        # 1 - e rounds away what is far smaller than 1.
        assert error == pytest.approx(min(e, 1.0), rel=1e-9, abs=1e-6)
    else:
        assert error == pytest.approx(e, rel=1e-9)
    if error > 1e-3:
        assert w(s, error, scale) == pytest.approx(value, rel=1e-9, abs=1e-12)
        assert w(s, 0.99 * error, scale) > value


def test_error_for_at_its_limits() -> None:
    assert error_for(0.5, 0.8) == 1.6
    assert error_for(0.5, 0.8, RELATIVE) == 0.4
    assert error_for(0.5, 0.8, COMPLEMENT) == 0.375
    assert error_for(0.9, 0.8, COMPLEMENT) == 0.0, "no error gives more than the savings"
    assert [error_for(value, 0.0, scale) for value in (0.0, 0.5) for scale in (RECIPROCAL, RELATIVE, COMPLEMENT)] == [0.0] * 6
    assert error_for(0.0, 0.8) == error_for(0.0, 0.8, RELATIVE) == math.inf
    assert error_for(0.0, 0.8, COMPLEMENT) == 1.0


@given(rows=st.lists(st.tuples(saved, errors), min_size=1, max_size=20), scale=scales)
def test_arrays_give_what_single_values_give(rows: list[tuple[float, float]], scale: ErrorScale) -> None:
    s, e = np.array(rows).T
    assert w(s, e, scale).tolist() == [w(*row, scale) for row in rows]
    assert error_for(0.3, s, scale).tolist() == [error_for(0.3, row[0], scale) for row in rows]


@given(values=st.lists(st.sampled_from([0.0, 0.5, 0.75]), min_size=1, max_size=12), data=st.data())
def test_equal_w_goes_to_the_lowest_index(values: list[float], data: st.DataObject) -> None:
    indices = data.draw(st.permutations(range(len(values))))
    best = min(range(len(values)), key=lambda row: precedence(values[row], indices[row]))
    assert first(np.array(values), np.array(indices)) == best
    records: list[dict[str, Any]] = [{"w": value, "index": index} for value, index in zip(values, indices, strict=True)]
    order = ranked([{"w": None, "index": -1}, *records])
    assert order[0] == records[best]
    assert order[-1]["w"] is None


def test_exponents_raise_the_factor_of_the_error() -> None:
    assert w(0.5625, 2.0, ErrorScale(exponent=2.0)) == 0.5625 / 4
    assert w(0.5625, 0.5, ErrorScale("relative", 0.25, 2.0)) == 0.5625 / 4
    assert w(0.5625, 0.5, ErrorScale("complement", exponent=2.0)) == 0.5625 * 0.75


def test_a_latency_above_the_maximum_point_saves_nothing() -> None:
    assert savings(10, 105.0, 100, 100.0) == 0.0
    assert savings(110, 105.0, 100, 100.0) == 0.0, "two shares below 0 must not multiply to one above it"
    assert savings(100, 200, 100, 200) == 0.0


@pytest.mark.parametrize(("shape", "product"), [(BORT, 0.722), (BORT_PUBLISHED, 0.797)])
def test_savings_of_the_published_shapes(shape, product) -> None:  # type: ignore[no-untyped-def]
    point = ROBERTA_LARGE
    assert savings(shape.parameters(), shape.operations(), point.parameters(), point.operations()) == pytest.approx(
        product, abs=0.02
    )


@pytest.mark.parametrize("error", [0.0, -1.0, math.nan, math.inf])
def test_w_of_an_unusable_error_is_refused(error: float) -> None:
    for scale in (RECIPROCAL, RELATIVE, COMPLEMENT):
        with pytest.raises(BortError, match="error above 0"):
            w(0.5, error, scale)


def test_bad_settings_of_w_are_refused() -> None:
    for p_max, i_max in ((0, 2), (2, 0)):
        with pytest.raises(BortError, match="maximum point"):
            savings(1, 1, p_max, i_max)
    with pytest.raises(BortError, match=r"e\(T\)=None .*relative"):
        ErrorScale("relative")
    with pytest.raises(BortError, match=r"error_scale=square .*reciprocal"):
        ErrorScale("square")


def test_the_complement_is_never_negative() -> None:
    assert w(0.5, 1.0, COMPLEMENT) == w(0.9, 4.08, COMPLEMENT) == 0.0
    assert math.copysign(1.0, w(0.9, 4.08, COMPLEMENT)) == 1.0, "not minus 0, which tables would show"
    assert w(0.5, 0.75, COMPLEMENT) == float(exact_w(Fraction(1, 2), 0.75, "complement"))


def test_no_winner_where_no_w_is_above_zero() -> None:
    check_winner(0.1, [0.5, 4.0], COMPLEMENT)
    check_winner(0.0, [0.5, 0.9], COMPLEMENT)
    check_winner(0.0, [5.0, 4.0], RECIPROCAL)
    with pytest.raises(ConfigurationError) as refusal:
        check_winner(0.0, [5.0, 4.0], COMPLEMENT)
    assert (refusal.value.key, refusal.value.value) == ("search.error_scale", "complement")
    assert "reciprocal or relative" in refusal.value.condition
    assert "smallest is 4" in refusal.value.condition
