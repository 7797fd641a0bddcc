"""Numbers as people read them."""

from __future__ import annotations

import math

from bort.report.reading import is_number

DASH = "–"


def figure(value: object, digits: int = 3) -> str:
    """Returns a number with so many significant digits, without an exponent where it can be avoided; a dash where there is none."""
    if not is_number(value):
        return DASH
    number = float(value)
    if number == 0:
        return "0"
    size = math.floor(math.log10(abs(number)))
    if size >= digits:
        return f"{number:,.0f}"
    if size < -3:
        return f"{number:.{digits - 1}e}"
    return f"{number:.{max(0, digits - 1 - size)}f}"


def big(value: object) -> str:
    """Returns a count in thousands, millions, billions (G) or trillions (T), with three digits."""
    if not is_number(value):
        return DASH
    number = float(value)
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= unit:
            return figure(number / unit) + name
    return f"{number:g}"


def tick(value: float) -> str:
    """Returns a count for an axis: as :func:`big`, without the zeros at its end."""
    shown, _, unit = big(value).partition(" ")
    return (shown.rstrip("0").rstrip(".") if "." in shown else shown) + (f" {unit}" if unit else "")


def percent(value: object, digits: int = 1) -> str:
    """Returns a share as a percentage."""
    return f"{100 * float(value):.{digits}f} %" if is_number(value) else DASH


def times(value: object) -> str:
    """Returns a ratio, e.g. ``5.1×``."""
    return f"{figure(value, 2 if is_number(value) and float(value) < 100 else 3)}×" if is_number(value) else DASH


def duration(seconds: object) -> str:
    """Returns a time as people say it: ``0.4 s``, ``52 s``, ``4 min 05 s``, ``2 h 10 min``."""
    if not is_number(seconds):
        return DASH
    number = float(seconds)
    if number < 10:
        return f"{number:.1f} s"
    if number < 60:
        return f"{number:.0f} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: object) -> str:
    """Returns a number of bytes in kB, MB or GB."""
    if not is_number(count):
        return DASH
    number = float(count)
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{figure(number / unit)} {name}"
    return f"{number:.0f} B"


def score(value: object, metric: str) -> str:
    """Returns a task's score: as a percentage where the metric is a share of examples, in points otherwise."""
    if not is_number(value):
        return DASH
    return f"{100 * float(value):.1f} %" if metric.startswith(("accuracy", "exact")) else f"{100 * float(value):.1f}"
