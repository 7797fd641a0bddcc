"""Pieces of the page. Everything that comes from a result is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from bort.report.drawing import Drawing


@dataclass(frozen=True)
class Cell:
    """A table cell.

    Args:
        text: What is shown.
        key: What it is sorted by; the text where absent.
        strong: Whether it stands out.
        link: A part of the page that the text leads to, e.g. ``#task``.
    """

    text: str
    key: float | None = None
    strong: bool = False
    link: str = ""


def section(identity: str, title: str, parts: Iterable[str]) -> str:
    """Returns a section, or nothing where all of its parts are empty."""
    body = "\n".join(part for part in parts if part)
    if not body:
        return ""
    return f'<section id="{identity}" aria-labelledby="{identity}-h"><h2 id="{identity}-h">{escape(title)}</h2>\n{body}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    """Returns a paragraph; nothing where the text is empty."""
    return f"<p{f' class={kind!r}' if kind else ''}>{escape(text)}</p>" if text else ""


def note(text: str) -> str:
    """Returns a paragraph that the reader must not miss."""
    return f'<p class="note" role="note">{escape(text)}</p>' if text else ""


def code(lines: Sequence[str]) -> str:
    """Returns commands, to be copied."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>" if lines else ""


def figure(drawing: Drawing | None) -> str:
    """Returns a figure with its caption; nothing where there is no drawing."""
    if drawing is None:
        return ""
    title = drawing.title if drawing.title.endswith("?") else f"{drawing.title}."
    return (
        f'<figure id="figure-{drawing.name}">\n{drawing.svg}\n'
        f"<figcaption><strong>{escape(title)}</strong> {escape(drawing.text)}</figcaption></figure>"
    )


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], *, sort: bool = True, fold: int | None = None, kind: str = ""
) -> str:
    """Returns a table whose columns can be sorted by a button in their head.

    Args:
        caption: What it holds.
        head: Names of the columns.
        rows: Cells; the first of each row names it.
        sort: Whether it can be sorted.
        fold: Rows beyond which it is folded away until asked for; print shows it whole.
        kind: ``words`` for cells of running text, which may be broken into lines; ``tall`` for many rows, in a window of their own.
    """
    if not rows:
        return ""
    numeric = [all(row[place].key is not None or row[place].text in ("", "–") for row in rows) for place in range(len(head))]
    sort = sort and len(rows) > 1
    heads = "".join(_head(name, number, sort) for name, number in zip(head, numeric, strict=True))
    body = "\n".join(
        "<tr>" + "".join(_cell(cell, place, numeric[place]) for place, cell in enumerate(row)) + "</tr>" for row in rows
    )
    kinds = " ".join(name for name in ("sortable" if sort else "", kind) if name)
    frame = "scroll tall" if kind == "tall" else "scroll"
    whole = (
        f'<div class="{frame}" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="{kinds}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )
    if fold is not None and len(rows) > fold:
        return f"<details><summary>{escape(caption)}: {len(rows)} rows</summary>{whole}</details>"
    return whole


def _head(name: str, number: bool, sort: bool) -> str:
    kind = ' class="n"' if number else ""
    if not sort:
        return f'<th scope="col"{kind}>{escape(name)}</th>'
    return (
        f'<th scope="col" aria-sort="none"{kind}><button type="button">{escape(name)}<span aria-hidden="true"></span></button></th>'
    )


def _cell(cell: Cell, place: int, number: bool) -> str:
    tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
    kinds = " ".join(name for name, wanted in (("n", number), ("strong", cell.strong)) if wanted)
    key = f' data-key="{cell.key!r}"' if cell.key is not None else ""
    text = f'<a href="{escape(cell.link)}">{escape(cell.text)}</a>' if cell.link else escape(cell.text)
    return f"<{tag}{scope}{f' class={chr(34)}{kinds}{chr(34)}' if kinds else ''}{key}>{text}</{tag}>"
