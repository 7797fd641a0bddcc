"""The W-coefficient: the savings of a candidate, W, its inverse, and the order that W gives.

W = (p(T) - p)/p(T) · (i(T) - i)/i(T) · f(e) is formula 2 of arXiv:2010.10499 as its readers re-implemented it (QHACK2021
``qose/train_utils.py``); T is the maximum point of arXiv:2010.08512, definition 8. Whether f(e) is 1/e, e(T)/e or 1 - e
could not be recovered, so each is an :class:`ErrorScale`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from bort.errors import BortError, ConfigurationError
from bort.search.config import ERROR_SCALES

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ErrorScale:
    """The last factor of W, f(e).

    Args:
        name: ``reciprocal`` 1/e, ``relative`` e(T)/e, or ``complement`` 1 - e, which is 0 for e >= 1.
        e_max: e(T), required by ``relative``.
        exponent: Power to which e, or e(T)/e, is raised; 1 in the paper.

    Raises:
        BortError: The name is unknown, or ``relative`` lacks e(T).
    """

    name: str = "reciprocal"
    e_max: float | None = None
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ERROR_SCALES:
            raise BortError(f"error_scale={self.name} is invalid: must be one of {', '.join(ERROR_SCALES)}.")
        if self.name == "relative" and not (self.e_max or 0.0) > 0:
            raise BortError(f"e(T)={self.e_max} is invalid: error_scale=relative requires a number > 0.")


RECIPROCAL, COMPLEMENT = ErrorScale("reciprocal"), ErrorScale("complement")


def share_saved(value: float, maximum: float) -> float:
    """Return (maximum - value)/maximum, and 0 for a value above the maximum.

    A measured latency may lie above T's by as much as medians scatter; such a candidate saves nothing.

    Raises:
        BortError: The maximum is not positive.
    """
    if not maximum > 0:
        raise BortError(f"W needs a maximum point with parameters and latency above 0, not {maximum}.")
    return max(0.0, maximum - value) / maximum


def savings(p: float, i: float, p_max: float, i_max: float) -> float:
    """Return the product of the shares of parameters and of latency that a candidate saves against T, in [0, 1]."""
    return share_saved(p, p_max) * share_saved(i, i_max)


def usable(error: float) -> bool:
    """Return whether W is defined for an error: a diverged training has none."""
    return math.isfinite(error) and error > 0


@overload
def w(savings: float, error: float, scale: ErrorScale = ...) -> float: ...
@overload
def w(savings: Array, error: Array, scale: ErrorScale = ...) -> Array: ...
def w(savings: float | Array, error: float | Array, scale: ErrorScale = RECIPROCAL) -> float | Array:
    """Return W, elementwise for arrays, whose errors are not checked.

    Raises:
        BortError: A single error is not usable.
    """
    if not isinstance(error, np.ndarray) and not usable(error):
        raise BortError(f"W needs an error above 0, not {error}.")
    if scale.name == "reciprocal":
        return savings / _power(error, scale.exponent)
    if scale.name == "relative":
        return savings * _power(_e_max(scale) / error, scale.exponent)
    complement = 1.0 - _power(error, scale.exponent)
    return savings * (np.maximum(complement, 0.0) if isinstance(complement, np.ndarray) else max(complement, 0.0))


@overload
def error_for(w: float, savings: float, scale: ErrorScale = ...) -> float: ...
@overload
def error_for(w: float, savings: Array, scale: ErrorScale = ...) -> Array: ...
def error_for(w: float, savings: float | Array, scale: ErrorScale = RECIPROCAL) -> float | Array:
    """Return the error below which candidates of these savings exceed a W: the inverse of :func:`w`.

    It is 0 if no error suffices: without savings, or with the complement for a W as large as the savings. For W = 0 it is
    infinite, or 1 with the complement.
    """
    saved = np.asarray(savings, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        if scale.name == "complement":
            error = _power(np.maximum(1.0 - w / saved, 0.0), 1.0 / scale.exponent)
        else:
            error = _power(saved / w, 1.0 / scale.exponent)
            if scale.name == "relative":
                error = _e_max(scale) * error
    error = np.where(saved > 0, error, 0.0)
    return error if isinstance(savings, np.ndarray) else float(error)


def precedence(w: float, index: int) -> tuple[float, int]:
    """Return the sort key of a candidate: the largest W comes first, and of equal W the first of the ordered space."""
    return -w, index


def first(values: Array, indices: Integers) -> int:
    """Return the position of the candidate with the smallest :func:`precedence`.

    Args:
        values: W of each candidate, [N].
        indices: Its index in the ordered space, [N].
    """
    ties = np.flatnonzero(values == values.max())
    return int(ties[np.argmin(indices[ties])])


def ranked(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return candidates' records by :func:`precedence`, those without W last.

    Records written before they had an ``index`` keep the order of their trials if their W is equal.
    """

    def key(record: Mapping[str, Any]) -> tuple[bool, float, int]:
        value = record.get("w")
        return value is None, *precedence(value or 0.0, record.get("index", record.get("number", 0)))

    return sorted(records, key=key)


def has_winner(best: float, largest_error: float, scale: ErrorScale) -> bool:
    """Return whether the largest W tells a winner: with the complement, W = 0 ranks nothing if errors reach 1."""
    return scale.name != "complement" or best > 0 or largest_error < 1.0


def check_winner(best: float, errors: Iterable[float], scale: ErrorScale) -> None:
    """Refuse a search whose largest W is 0 only because the complement is not defined for its errors.

    Args:
        best: The largest W.
        errors: The errors of all candidates that have a W.
        scale: The last factor of W.

    Raises:
        ConfigurationError: No candidate that saves anything has an error below 1.
    """
    known = list(errors)
    if not has_winner(best, max(known), scale):
        raise ConfigurationError(
            "search.error_scale",
            scale.name,
            f"reciprocal or relative if no candidate that saves anything has an error < 1; the smallest is {min(known):.4g}",
        )


def _power(value: Any, exponent: float) -> Any:
    # Raising 10^5 values to the power of 1 costs as much as all else here.
    return value if exponent == 1.0 else value**exponent


def _e_max(scale: ErrorScale) -> float:
    assert scale.e_max is not None
    return scale.e_max
