"""W in exact fractions, independent of the library: what its floats are compared with."""

from __future__ import annotations

from fractions import Fraction


def exact_savings(p: float, i: float, p_max: float, i_max: float) -> Fraction:
    shares = [1 - Fraction(value) / Fraction(maximum) for value, maximum in ((p, p_max), (i, i_max))]
    return max(Fraction(0), shares[0]) * max(Fraction(0), shares[1])


def exact_w(saved: Fraction, error: float, scale: str = "reciprocal", e_max: float | None = None) -> Fraction:
    factors = {
        "reciprocal": lambda: 1 / Fraction(error),
        "relative": lambda: Fraction(e_max or 0) / Fraction(error),
        "complement": lambda: max(Fraction(0), 1 - Fraction(error)),
    }
    return saved * factors[scale]()
