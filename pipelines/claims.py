"""`bort claims`: what the paper claims, beside what was measured here, with the evidence; or the command that would tell."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from .app.main import guarded

_RECORDS = Path("docs/measurements")


def main() -> None:
    """Prints the ledger of the claims, filled from results."""
    parser = argparse.ArgumentParser(prog="bort claims", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "evidence", nargs="*", type=Path, help="records and results, or folders of them (default: docs/measurements, else none)"
    )
    parser.add_argument("--markdown", action="store_true", help="print it as Markdown")
    parser.add_argument(
        "--into", type=Path, metavar="PAGE", help="write it between the marks of a Markdown page, such as README.md"
    )
    options = parser.parse_args(sys.argv[1:])
    guarded(lambda: _show(options.evidence or ([_RECORDS] if _RECORDS.is_dir() else []), options.markdown, options.into))


def _show(paths: list[Path], as_markdown: bool, page: Path | None) -> None:
    from bort.files import write_text
    from bort.report.claims import claims
    from bort.report.claims_table import HEAD, insert, markdown
    from bort.report.evidence import read_evidence

    lines = claims(read_evidence(paths))
    if page:
        write_text(page, insert(page, markdown(lines, page.parent)))
        print(f"Written into {page}.")
    elif as_markdown:
        print(markdown(lines), end="")
    else:
        from rich.table import Table

        made = Table(*HEAD, show_lines=True, header_style="bold", box=None, pad_edge=False, collapse_padding=True)
        for line in lines:
            told = "\n".join(part for part in (line.evidence, line.command) if part)
            made.add_row(f"{line.claim.words}: {line.claim.printed}", line.here, line.verdict, told)
        Console(highlight=False, markup=False).print(made)


if __name__ == "__main__":
    main()
