"""`bort size`: parameters and operations of any architecture, published model or directory, beside the paper's."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from .app.main import guarded
from .tables import table

_USAGE = "usage: bort size ARCHITECTURE|MODEL|DIRECTORY …    e.g. bort size 4-8-1024-768 bert-large outputs/demo/distill/student"
_WIDTH = 172
_PARTS = ("total", "bare", "embedding", "norm", "encoder", "pooler", "head")
_COLUMNS = ("model", "shape", *_PARTS, "encoder %", "effective %", "net %", "operations", "fewer")


def main() -> None:
    """Prints the sizes of what the command line names."""
    names = sys.argv[1:]
    if not names or names[0] in ("-h", "--help"):
        print(_USAGE)
    else:
        guarded(lambda: _print(names))


def _print(names: list[str]) -> None:
    from bort.measure.sizes import size_table

    tables = [size_table(name) for name in names]
    # What is compared with stands once, below all that was asked for.
    rows: list[dict[str, Any]] = [sizes["asked"] for sizes in tables]
    for sizes in tables:
        rows += [row for row in sizes["rows"][1:] if not any(_same(row, other) for other in rows)]
    _print_table(rows, tables[0]["sequence_length"], tables[0]["notes"])


def _same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(row[key] == other[key] for key in ("architecture", "total", "embedding", "basis"))


def _print_table(rows: list[dict[str, Any]], sequence_length: int, notes: list[str]) -> None:
    # So many columns need their room; a narrower terminal folds the lines.
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    cells = [
        (
            row["name"],
            row["architecture"] or "–",
            *(_millions(row[key]) for key in _PARTS),
            *(_share(row[key]) for key in ("encoder_proportion", "effective", "net")),
            _millions(row["operations"]),
            "–" if row["fewer_operations"] is None else f"{row['fewer_operations']:.1f}×",
        )
        for row in rows
    ]
    title = f"Sizes in millions; operations at {sequence_length} tokens, and how many times fewer than BERT-large's"
    console.print(table(title, _COLUMNS, cells))
    for note in notes:
        console.print(f"[dim]{note}[/]")


def _millions(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e6:,.1f}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


if __name__ == "__main__":
    main()
