"""`bort track sync`: delivers by hand what was recorded while MLflow could not be reached."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bort.errors import BortError
from bort.redaction import redact
from bort.tracking.pending import deliver, waiting

from .app.console import ConsoleObserver, console
from .app.environment import from_environment
from .app.main import guarded
from .app.output import redacted_output

_URI = (
    "the store's address with its password, which is kept nowhere; by default as this user's runs recorded it. "
    "What others recorded is delivered only to a store that is named here or in MLFLOW_TRACKING_URI"
)


def main() -> None:
    """Delivers what lies below a folder of results; ends with status 1 where something is left."""
    parser = argparse.ArgumentParser(prog="bort track", description=__doc__.partition(": ")[2])
    parser.add_argument("what", choices=["sync"], help="deliver what waits")
    parser.add_argument("outputs", nargs="?", default="outputs", type=Path, help="the folder of results (default: outputs)")
    parser.add_argument("--uri", help=_URI)
    options = parser.parse_args(sys.argv[1:])
    with redacted_output():
        guarded(lambda: _sync(options.outputs, options.uri or from_environment("MLFLOW_TRACKING_URI") or None))


def _sync(outputs: Path, uri: str | None) -> None:
    if not outputs.is_dir():
        raise BortError(f"There is no folder {outputs}: name the one that holds the results.")
    found, observer = waiting(outputs), ConsoleObserver("tracking")
    if not found:
        console.print(f"Nothing in {outputs} waits to be delivered.")
    left = 0
    for one in found:
        report = deliver(one, observer, uri=uri)
        if report is None:
            console.print(f"{one.spool}: a worker is writing it, and delivers it when it ends.", soft_wrap=True)
        elif report.error:
            left += 1
            console.print(f"{one.spool}: kept, not delivered to {redact(one.config.uri)}: {report.error}.", soft_wrap=True)
        else:
            console.print(f"{one.spool}: {report.delivered} events delivered to {redact(one.config.uri)}.", soft_wrap=True)
            for refused in report.refused:
                console.print(f"  refused and set aside: {refused}", soft_wrap=True, markup=False)
    if left:
        raise BortError(f"{left} of {len(found)} spools wait on. Fix the cause shown above, then re-run the same command.")


if __name__ == "__main__":
    main()
