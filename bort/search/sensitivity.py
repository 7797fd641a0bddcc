"""The sensitivity of the winner to how the error enters W."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bort.search.problem import Candidate
from bort.search.w import COMPLEMENT, RECIPROCAL, Array, ErrorScale, first, has_winner, w

#: Exponents of e at which the winner is computed again: a quarter to four, by quarters of an octave.
EXPONENTS = tuple(round(2.0 ** (step / 4), 4) for step in range(-8, 9))


def sensitivity(candidates: Sequence[Candidate], errors: Sequence[float], scale: ErrorScale) -> dict[str, Any]:
    """Return the winner under each scale of e, and under each exponent of the scale of the search.

    The savings span only 0.29 to 0.91 on the paper's space, so the scale of e decides much.

    Args:
        candidates: At least one candidate that was trained to the last rung.
        errors: Their errors.
        scale: The scale of the search.

    Returns:
        ``scales``: winner by scale, ``None`` if the scale has no winner for these errors (1 - e needs an error below 1);
        ``exponents``: list of ``exponent``, ``winner`` and ``w``; ``stable``: the range of exponents around 1 with the winner of
        the search.
    """
    saved = np.array([candidate.savings for candidate in candidates], dtype=np.float64)
    indices = np.array([candidate.index for candidate in candidates], dtype=np.int64)
    e: Array = np.asarray(errors, dtype=np.float64)

    def winner(scale: ErrorScale) -> tuple[str | None, float]:
        values = w(saved, e, scale)
        best = first(values, indices)
        known = has_winner(float(values[best]), float(e.max()), scale)
        return str(candidates[best].architecture) if known else None, float(values[best])

    rows = []
    for exponent in EXPONENTS:
        name, value = winner(replace(scale, exponent=exponent))
        rows.append({"exponent": exponent, "winner": name, "w": value})
    # e(T)/e is 1/e times a constant: the same winner, whatever e(T) is.
    proportional, _ = winner(scale if scale.name == "relative" else RECIPROCAL)
    scales = {"reciprocal": proportional, "relative": proportional, "complement": winner(COMPLEMENT)[0]}
    return {"scales": scales, "exponents": rows, "stable": _stable_range(rows)}


def _stable_range(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the first and last exponent of the unbroken run around 1 with the winner of exponent 1."""
    center = min(range(len(rows)), key=lambda index: abs(rows[index]["exponent"] - 1.0))
    low = high = center
    while low > 0 and rows[low - 1]["winner"] == rows[center]["winner"]:
        low -= 1
    while high < len(rows) - 1 and rows[high + 1]["winner"] == rows[center]["winner"]:
        high += 1
    return [float(rows[low]["exponent"]), float(rows[high]["exponent"])]
