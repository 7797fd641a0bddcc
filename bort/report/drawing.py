"""From a matplotlib figure to an SVG that takes its colours from the page, can be read aloud, and answers to the pointer."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from bort.files import atomic_path, write_text
from bort.quiet import quiet
from bort.report.theme import LIGHT, style, with_variables

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": LIGHT["ink"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.edgecolor": LIGHT["faint"],
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.7,
    "xtick.color": LIGHT["faint"],
    "ytick.color": LIGHT["faint"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "text.color": LIGHT["ink"],
    "legend.frameon": False,
    "legend.labelcolor": LIGHT["ink"],
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass
class Drawing:
    """A finished figure.

    Args:
        name: File name without its ending.
        title: What it shows, in a few words.
        text: What is to be seen in it, for those who cannot see it and for the caption.
        svg: The figure, without a prolog, its colours taken from the page.
        png: The same, light, for where SVG is not wanted.
    """

    name: str
    title: str
    text: str
    svg: str
    png: bytes

    def write(self, folder: Path) -> None:
        """Writes ``<name>.svg``, which follows the reader's light or dark setting by itself, and ``<name>.png``."""
        alone = self.svg.replace("<style>", f"<style>{style()} svg {{ background: var(--paper); }} ", 1)
        write_text(folder / f"{self.name}.svg", alone + "\n")
        with atomic_path(folder / f"{self.name}.png") as temporary:
            temporary.write_bytes(self.png)


@dataclass
class Canvas:
    """A figure being drawn: matplotlib's figure, and what to say when the pointer rests on a part of it."""

    figure: Any
    axes: list[Any]
    hints: dict[str, str] = field(default_factory=dict)

    def hint(self, artist: Any, text: str) -> None:
        """Says ``text`` when the pointer rests on ``artist``."""
        identity = f"hint{len(self.hints)}"
        artist.set_gid(identity)
        self.hints[identity] = text


@contextmanager
def canvas(columns: int = 1, *, width: float = 7.2, height: float = 3.6, rows: int = 1, **options: Any) -> Iterator[Canvas]:
    """Yields a canvas of the page's look; it is closed at the end.

    Args:
        columns: Axes beside each other.
        width: In inches; 7.2 is the width of the page's column.
        height: In inches.
        rows: Axes above each other.
        **options: For matplotlib's ``subplots``.
    """
    with quiet("matplotlib"):
        # The first import builds a cache of fonts.
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        # Without pyplot: nothing global is touched, and no window system is looked for.
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        made = figure.subplots(rows, columns, squeeze=False, **options)
        yield Canvas(figure, list(made.ravel()))


def finish(drawn: Canvas, name: str, title: str, text: str) -> Drawing:
    """Returns the drawing of a canvas; to be called while the canvas is open.

    Args:
        drawn: The canvas.
        name: File name without its ending; also keeps its ids apart from those of other figures on the page.
        title: What it shows.
        text: What is to be seen in it.
    """
    import matplotlib as mpl

    vector, pixels = io.StringIO(), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        drawn.figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        # Everything has its place now; to look for it again would take as long as the drawing.
        drawn.figure.set_layout_engine("none")
        drawn.figure.savefig(pixels, format="png", dpi=160, facecolor=LIGHT["paper"], metadata={"Software": None})
    return Drawing(name, title, text, _inline(vector.getvalue(), name, title, text, drawn.hints), pixels.getvalue())


def _inline(svg: str, name: str, title: str, text: str, hints: Mapping[str, str]) -> str:
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    for identity, hint in hints.items():
        mark = f'<g id="{name}-{identity}">'
        svg = svg.replace(mark, f"{mark}<title>{escape(hint)}</title>", 1)
    size = re.search(r'viewBox="([^"]+)"', svg)
    box = size[1] if size else "0 0 518 260"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" role="img" '
        f'aria-labelledby="{name}-title" aria-describedby="{name}-text">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-text">{escape(text)}</desc>'
    )
    svg = re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1)
    svg = with_variables(re.sub(r"<style type=\"text/css\">", "<style>", svg))
    # Matplotlib's rule for joins would reach every figure of the page.
    svg = re.sub(r"<style>\s*\*\{([^}]*)\}\s*</style>", rf"<style>svg [id^={name}-] {{\1}}</style>", svg)
    return re.sub(r"[ \t]*\n[ \t]*", "\n", svg)
