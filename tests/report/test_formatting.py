from __future__ import annotations

import pytest

from bort.report.formatting import big, duration, figure, percent, score, size, tick, times


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.36512, "0.365"),
        (2.0, "2.00"),
        (14.04, "14.0"),
        (1234.5, "1,234"),
        (0, "0"),
        (-0.5, "-0.500"),
        (3.14e-6, "3.14e-06"),
        (0.0021, "0.00210"),
    ],
)
def test_figures_have_three_digits(value: float, words: str) -> None:
    assert figure(value) == words


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "3", True, [1]])
def test_what_is_no_number_is_a_dash(value: object) -> None:
    assert {form(value) for form in (figure, big, percent, times, duration, size)} == {"–"}
    assert score(value, "accuracy") == "–"


def test_counts() -> None:
    assert [big(value) for value in (12, 4_500, 22_713_216, 3.2e9, 1.5e12)] == ["12", "4.50 k", "22.7 M", "3.20 G", "1.50 T"]
    assert [tick(value) for value in (3e6, 2.5e6, 200)] == ["3 M", "2.5 M", "200"]
    assert [size(value) for value in (12, 18_400_000, 2.5e9)] == ["12 B", "18.4 MB", "2.50 GB"]


def test_times_and_shares() -> None:
    assert [times(value) for value in (1.04, 9.26, 20.4, 144.2)] == ["1.0×", "9.3×", "20×", "144×"]
    assert percent(0.0551) == "5.5 %"
    assert [duration(value) for value in (0.42, 52.4, 245, 7800)] == ["0.4 s", "52 s", "4 min 05 s", "2 h 10 min"]
    assert [score(0.7391, "accuracy"), score(0.7391, "mcc")] == ["73.9 %", "73.9"]
