"""`bort size`: parameters and operations of any architecture, published model or directory, beside the paper's."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from pipelines.app import guarded
from pipelines.tables import table

_USAGE = "usage: bort size ARCHITECTURE|MODEL|DIRECTORY …    e.g. bort size 4-8-1024-768 bert-large outputs/demo/distill/student"
_WIDTH = 160
_COLUMNS = (
    *("model", "shape", "total", "embedding", "encoder", "pooler", "head"),
    *("encoder %", "effective %", "net %", "operations"),
)


def main() -> None:
    """Prints the sizes of what the command line names."""
    names = sys.argv[1:]
    if not names or names[0] in ("-h", "--help"):
        print(_USAGE)
    else:
        guarded(lambda: _print(names))


def _print(names: list[str]) -> None:
    from bort.measure.sizes import size_table

    for sizes in map(size_table, names):
        _print_table(sizes)


def _print_table(sizes: dict[str, Any]) -> None:
    # Eleven columns need their room; a narrower terminal folds the lines.
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    rows = [
        (
            row["name"],
            row["architecture"] or "–",
            *(_millions(row[key]) for key in ("total", "embedding", "encoder", "pooler", "head")),
            *(_share(row[key]) for key in ("encoder_proportion", "effective", "net")),
            _millions(row["operations"]),
        )
        for row in sizes["rows"]
    ]
    console.print(table(f"Sizes in millions; operations at {sizes['sequence_length']} tokens", _COLUMNS, rows))
    for note in sizes["notes"]:
        console.print(f"[dim]{note}[/]")


def _millions(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e6:,.1f}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


if __name__ == "__main__":
    main()
