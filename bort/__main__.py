"""The console script ``bort`` and ``python -m bort``."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Run the command that the command line names."""
    package = "bort._pipelines"
    if find_spec(package) is None:
        # A clone holds the commands beside the library. First on the path, so that no other `pipelines` is taken for them.
        package = "pipelines"
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import_module(f"{package}.__main__").main()


if __name__ == "__main__":
    main()
