"""Colours of the page and its figures, in a light and a dark form, and how a figure's colours become variables."""

from __future__ import annotations

import re

#: Name: (light, dark). The light ones are what matplotlib draws with, each unlike any other, so its SVG can be searched for them.
COLOURS = {
    "ink": ("#1d232b", "#e7eaee"),
    "muted": ("#66707c", "#9da7b3"),
    "faint": ("#b6bec8", "#4d5763"),
    "grid": ("#e4e8ec", "#2b323b"),
    "paper": ("#fdfdfc", "#14181d"),
    "panel": ("#f4f5f3", "#1c2229"),
    "student": ("#0a63c2", "#6cb2ff"),
    "twin": ("#b9530a", "#ff9f5a"),
    "teacher": ("#6a4fa3", "#bba6f2"),
    "front": ("#0d7f5b", "#4fd0a0"),
    "bad": ("#b3261e", "#ff8a80"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
#: What stands for each model of a result.
ROLE_COLOURS = {"student": LIGHT["student"], "twin": LIGHT["twin"], "teacher": LIGHT["teacher"], "majority": LIGHT["muted"]}

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'Liberation Sans', 'DejaVu Sans', sans-serif"


def variables(index: int) -> str:
    """Returns the colours as CSS variables: 0 for light, 1 for dark."""
    return " ".join(f"--{name}: {values[index]};" for name, values in COLOURS.items())


def with_variables(svg: str) -> str:
    """Returns an SVG whose fixed colours and fonts are variables of the page around it."""
    for name, (light, _) in COLOURS.items():
        svg = re.sub(light, f"var(--{name})", svg, flags=re.IGNORECASE)
    return re.sub(r"'DejaVu Sans'", "var(--font)", svg)


def style() -> str:
    """Returns the CSS that gives the variables their values: for a page, or inside an SVG that stands alone."""
    return (
        f":root {{ color-scheme: light dark; {variables(0)} --font: {_FONT}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(1)} }} }}\n"
        f"@media print {{ :root {{ color-scheme: light; {variables(0)} }} }}"
    )
