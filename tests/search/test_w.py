"""W and what the winner owes to the way e is scaled."""

from __future__ import annotations

import math

import pytest

from bort.architecture import BORT, BORT_PUBLISHED, ROBERTA_LARGE
from bort.errors import BortError
from bort.search.w import sensitivity, w_coefficient


def test_w_is_the_papers_formula() -> None:
    assert w_coefficient(25, 50, 2.0, 100, 200) == pytest.approx(0.75 * 0.75 / 2)
    assert w_coefficient(100, 200, 2.0, 100, 200) == 0.0
    assert w_coefficient(25, 50, 2.0, 100, 200, exponent=2) == pytest.approx(0.75 * 0.75 / 4)
    assert w_coefficient(25, 50, 2.0, 100, 200, scale="relative", e_max=1.0) == pytest.approx(0.75 * 0.75 / 2)
    assert w_coefficient(25, 50, 0.2, 100, 200, scale="complement") == pytest.approx(0.75 * 0.75 * 0.8)


@pytest.mark.parametrize(("shape", "product"), [(BORT, 0.722), (BORT_PUBLISHED, 0.797)])
def test_size_latency_products_of_the_fact_file(shape, product) -> None:  # type: ignore[no-untyped-def]
    point = ROBERTA_LARGE
    w = w_coefficient(shape.parameters(), shape.operations(), 1.0, point.parameters(), point.operations())
    assert w == pytest.approx(product, abs=0.02)


@pytest.mark.parametrize("error", [0.0, -1.0, math.nan, math.inf])
def test_w_of_no_error_is_refused(error: float) -> None:
    with pytest.raises(BortError, match="error above 0"):
        w_coefficient(1, 1, error, 2, 2)


def test_bad_settings_of_w_are_refused() -> None:
    with pytest.raises(BortError, match="maximum point"):
        w_coefficient(1, 1, 1.0, 0, 2)
    with pytest.raises(BortError, match="e\\(T\\)"):
        w_coefficient(1, 1, 1.0, 2, 2, scale="relative")
    with pytest.raises(BortError, match="not a scale"):
        w_coefficient(1, 1, 1.0, 2, 2, scale="square")


def test_sensitivity_names_the_winner_under_each_scale_and_exponent() -> None:
    found = sensitivity(["small", "large"], [0.9, 0.3], [0.8, 0.2])
    assert found["scales"] == {"reciprocal": "large", "relative": "large", "complement": "large"}
    winners = {row["exponent"]: row["winner"] for row in found["exponents"]}
    assert winners[0.25] == "small"
    assert winners[4.0] == "large"
    assert min(winners) == 0.25
    assert max(winners) == 4.0
    low, high = found["stable"]
    assert low <= 1.0 <= high == 4.0
    for row in found["exponents"]:
        assert row["w"] == pytest.approx(max(0.9 / 0.8 ** row["exponent"], 0.3 / 0.2 ** row["exponent"]))


def test_the_complement_has_no_meaning_above_one() -> None:
    assert sensitivity(["a", "b"], [0.9, 0.3], [5.0, 2.0])["scales"]["complement"] is None
