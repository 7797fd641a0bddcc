"""The W-coefficient, its variants, and how far the winner depends on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bort.errors import BortError
from bort.search.config import ERROR_SCALES

#: Exponents of e at which the winner is looked for again: a quarter to four, by quarters of an octave.
EXPONENTS = tuple(round(2.0 ** (step / 4), 4) for step in range(-8, 9))


def w_coefficient(
    p: float,
    i: float,
    e: float,
    p_max: float,
    i_max: float,
    *,
    scale: str = "reciprocal",
    e_max: float | None = None,
    exponent: float = 1.0,
) -> float:
    """Returns W = (p(T) − p)/p(T) · (i(T) − i)/i(T) · 1/e, which the search maximises.

    The formula is formula 2 of arXiv:2010.10499 as its readers re-implemented it (QHACK2021 ``qose/train_utils.py``); T is the
    maximum point of arXiv:2010.08512, definition 8. Whether the last factor is 1/e, e(T)/e or 1 − e could not be recovered, so
    all are options.

    Args:
        p: Parameters of the candidate.
        i: Latency of the candidate, in any unit.
        e: Error of the candidate, positive and finite.
        p_max: Parameters of T.
        i_max: Latency of T, in the unit of ``i``.
        scale: ``reciprocal`` 1/e, ``relative`` e(T)/e, or ``complement`` 1 − e.
        e_max: e(T), for ``relative``.
        exponent: Power to which e is raised first; 1 in the paper.

    Raises:
        BortError: e, p(T) or i(T) is not positive and finite, or the scale is unknown or lacks e(T).
    """
    if not p_max > 0 or not i_max > 0:
        raise BortError(f"W needs a maximum point with parameters and latency above 0, not {p_max} and {i_max}.")
    return scaled((p_max - p) / p_max * ((i_max - i) / i_max), e, scale=scale, e_max=e_max, exponent=exponent)


def scaled(savings: float, e: float, *, scale: str = "reciprocal", e_max: float | None = None, exponent: float = 1.0) -> float:
    """Returns W of a size-latency product and an error; see :func:`w_coefficient`."""
    if not (math.isfinite(e) and e > 0):
        raise BortError(f"W needs an error above 0, not {e}.")
    if scale == "reciprocal":
        return savings / e**exponent
    if scale == "complement":
        return savings * (1.0 - e**exponent)
    if scale == "relative":
        if e_max is None or not e_max > 0:
            raise BortError("W relative to the maximum point needs its error e(T), above 0.")
        return savings * (e_max / e) ** exponent
    raise BortError(f"'{scale}' is not a scale of the error: use one of {', '.join(ERROR_SCALES)}.")


def sensitivity(names: Sequence[str], savings: Sequence[float], errors: Sequence[float]) -> dict[str, Any]:
    """Returns the winner under each scale of e and under each power of it.

    The size-latency product spans only 0.29 to 0.91 on the paper's space, so the way e is scaled decides much.

    Args:
        names: Candidates that were trained to the last rung.
        savings: Their size-latency products.
        errors: Their errors.

    Returns:
        ``scales``: winner by scale, ``None`` where the scale has no meaning for these errors (1 − e needs an error below 1);
        ``exponents``: list of ``exponent``, ``winner`` and ``w``; ``stable``: the range of exponents around 1 with the same winner.
    """
    if not names:
        return {"scales": dict.fromkeys(ERROR_SCALES), "exponents": [], "stable": None}
    s, e = np.asarray(savings, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    rows = []
    for exponent in EXPONENTS:
        w = s / e**exponent
        best = int(np.argmax(w))
        rows.append({"exponent": exponent, "winner": names[best], "w": float(w[best])})
    # e(T)/e is 1/e times a constant: the same order, whatever e(T) is.
    reciprocal = names[int(np.argmax(s / e))]
    complement = names[int(np.argmax(s * (1.0 - e)))] if float(e.min()) < 1.0 else None
    scales: Mapping[str, str | None] = {"reciprocal": reciprocal, "relative": reciprocal, "complement": complement}
    return {"scales": dict(scales), "exponents": rows, "stable": _stable_range(rows)}


def _stable_range(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Returns the first and last exponent of the unbroken run around 1 that has the winner of exponent 1."""
    centre = min(range(len(rows)), key=lambda index: abs(rows[index]["exponent"] - 1.0))
    low = high = centre
    while low > 0 and rows[low - 1]["winner"] == rows[centre]["winner"]:
        low -= 1
    while high < len(rows) - 1 and rows[high + 1]["winner"] == rows[centre]["winner"]:
        high += 1
    return [float(rows[low]["exponent"]), float(rows[high]["exponent"])]
