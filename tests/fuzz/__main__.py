"""`python -m tests.fuzz`: feeds every reader of outside input so many made-up inputs, and writes what came of it."""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from bort.files import atomic_path, write_json
from tests.fuzz.engine import Outcome, Reader, fuzz, seed_name
from tests.fuzz.readers import readers

SEEDS = Path(__file__).with_name("seeds")
_MEMORY = Path("/dev/shm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 where a reader crashed or hung."""
    known = readers()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs for each reader (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="fixes every input (default: %(default)s)")
    parser.add_argument("--reader", action="append", choices=sorted(known), help="only this reader; may be given several times")
    parser.add_argument("--out", type=Path, default=Path("outputs/fuzz"), help="gets result.json (default: %(default)s)")
    asked = parser.parse_args(arguments)
    chosen = [known[name] for name in asked.reader or known]
    outcomes = _all(chosen, asked.inputs, asked.seed)
    for name, outcome in outcomes.items():
        for failure in outcome.failures:
            data = failure.pop("input")
            failure["file"] = str(_keep(name, failure["variant"], data))
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "result.json"
    earlier = json.loads(path.read_text())["readers"] if path.exists() and asked.reader else {}
    results = {name: {"seed": asked.seed, **outcome.as_dict()} for name, outcome in outcomes.items()}
    write_json(path, {"schema": 1, "readers": earlier | results})
    Console(stderr=True, highlight=False).print(_table(chosen, outcomes))
    print(f"{path}")
    return int(any(outcome.crashed or outcome.hung for outcome in outcomes.values()))


def _all(chosen: Sequence[Reader], inputs: int, seed: int) -> dict[str, Outcome]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    outcomes: dict[str, Outcome] = {}
    # In memory where the system has such a folder: a million small files are no work for a disk.
    folder = Path(tempfile.mkdtemp(prefix="bort-fuzz-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    try:
        with Progress(*columns, console=console) as bars:
            for reader in chosen:
                bar = bars.add_task(reader.name, total=inputs)
                told = functools.partial(_told, bars, bar)
                outcomes[reader.name] = fuzz(reader, inputs, seed, folder / reader.name, told)
                bars.update(bar, completed=inputs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcomes


def _told(bars: Progress, bar: TaskID, done: int) -> None:
    bars.update(bar, completed=done)


def _keep(reader: str, variant: str, data: bytes) -> Path:
    path = SEEDS / seed_name(reader, variant.replace("/", "-"), data)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def _table(chosen: Sequence[Reader], outcomes: dict[str, Outcome]) -> Table:
    table = Table("reader", "what", "inputs", "read", "refused", "crashed", "hung", "slowest, ms", "processor-seconds", box=None)
    for reader in chosen:
        one = outcomes[reader.name]
        counts = [f"{count:,}" for count in (one.inputs, one.read, one.refused, one.crashed, one.hung)]
        table.add_row(reader.name, reader.what, *counts, f"{one.slowest * 1e3:.0f}", f"{one.processor_seconds:.0f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
