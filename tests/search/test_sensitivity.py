"""The sensitivity of the winner to the scale of the error and to its exponent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bort.architecture import Architecture
from bort.search.problem import Candidate
from bort.search.sensitivity import EXPONENTS, sensitivity
from bort.search.w import COMPLEMENT, RECIPROCAL, ErrorScale

SMALL, LARGE = Architecture(1, 2, 32, 64), Architecture(8, 2, 32, 64)


def candidates(savings: Sequence[float], indices: Sequence[int] = (0, 1)) -> list[Candidate]:
    shapes = (SMALL, LARGE)
    return [
        Candidate(index, shape, {}, 1, 1.0, saved, str(index)) for index, shape, saved in zip(indices, shapes, savings, strict=True)
    ]


def test_the_winner_is_named_under_each_scale_and_exponent() -> None:
    found = sensitivity(candidates([0.9, 0.3]), [0.8, 0.2], RECIPROCAL)
    assert found["scales"] == dict.fromkeys(("reciprocal", "relative", "complement"), str(LARGE))
    winners = {row["exponent"]: row["winner"] for row in found["exponents"]}
    assert tuple(winners) == EXPONENTS
    assert (min(winners), winners[0.25]) == (0.25, str(SMALL))
    assert (max(winners), winners[4.0]) == (4.0, str(LARGE))
    low, high = found["stable"]
    assert low <= 1.0 <= high == 4.0
    for row in found["exponents"]:
        assert row["w"] == pytest.approx(max(0.9 / 0.8 ** row["exponent"], 0.3 / 0.2 ** row["exponent"]))


def test_exponents_vary_the_scale_of_the_search() -> None:
    relative = sensitivity(candidates([0.9, 0.3]), [0.8, 0.2], ErrorScale("relative", 0.5))
    complement = sensitivity(candidates([0.9, 0.3]), [0.8, 0.6], COMPLEMENT)
    for row in relative["exponents"]:
        assert row["w"] == pytest.approx(max(0.9 * (0.5 / 0.8) ** row["exponent"], 0.3 * (0.5 / 0.2) ** row["exponent"]))
    for row in complement["exponents"]:
        assert row["w"] == pytest.approx(max(0.9 * (1 - 0.8 ** row["exponent"]), 0.3 * (1 - 0.6 ** row["exponent"])))
    assert complement["scales"] == dict.fromkeys(("reciprocal", "relative", "complement"), str(SMALL))


def test_the_scale_decides_between_small_and_large() -> None:
    """1/e has the small one win, 1 - e the large one; each search states its winner at exponent 1."""
    for scale, winner in ((RECIPROCAL, SMALL), (COMPLEMENT, LARGE)):
        found = sensitivity(candidates([0.9, 0.5]), [0.9, 0.55], scale)
        assert found["scales"] == {"reciprocal": str(SMALL), "relative": str(SMALL), "complement": str(LARGE)}
        assert next(row["winner"] for row in found["exponents"] if row["exponent"] == 1.0) == str(winner)


def test_the_complement_has_no_winner_where_all_errors_reach_one() -> None:
    assert sensitivity(candidates([0.9, 0.3]), [5.0, 2.0], RECIPROCAL)["scales"]["complement"] is None
    assert sensitivity(candidates([0.9, 0.3]), [5.0, 0.5], RECIPROCAL)["scales"]["complement"] == str(LARGE)
    assert sensitivity(candidates([0.9, 0.0]), [5.0, 0.5], RECIPROCAL)["scales"]["complement"] is None


def test_equal_w_goes_to_the_lowest_index_not_to_the_first_trained() -> None:
    found = sensitivity(candidates([0.5, 0.5], indices=[7, 3]), [0.5, 0.5], RECIPROCAL)
    assert set(found["scales"].values()) | {row["winner"] for row in found["exponents"]} == {str(LARGE)}
