"""The fault tests at full size: `python -m tests.faults kills|scale|tracking|all`; figures go to a JSON file."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bort.files import write_json


def kills(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Kills at random moments; returns what came of it for each storage."""
    from tests.faults.kills import campaign
    from tests.faults.postgres import server

    storages = tuple(options.storages or ("journal", "postgres"))
    with ExitStack() as stack:
        postgres = stack.enter_context(server()) if "postgres" in storages else None
        tallies = campaign(folder, options.kills, options.seed, postgres, storages)
    return {name: tally.row() for name, tally in tallies.items()}


def scale(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Eight workers on 1,600 candidates, and a study of ten thousand; on each storage."""
    from bort.search.storage.config import JournalStorageConfig, PostgresStorageConfig, SqliteStorageConfig, StorageConfig
    from tests.faults.postgres import server
    from tests.faults.scale import FULL, large_study, many_workers

    found: dict[str, Any] = {}
    for name in options.storages or ("journal", "sqlite", "postgres"):
        with ExitStack() as stack:
            postgres = stack.enter_context(server()) if name == "postgres" else None

            def kept(study: str, name: str = name, url: str = postgres.url if postgres else "") -> StorageConfig:
                if name == "postgres":
                    return PostgresStorageConfig(url=url, study=study)
                file = str(folder / f"{study}.{name}")
                return JournalStorageConfig(path=file) if name == "journal" else SqliteStorageConfig(path=file)

            found[name] = {
                "many workers": many_workers(folder / f"many-{name}", kept("many"), 8, FULL),
                "large study": large_study(folder / f"large-{name}", kept("large"), options.candidates),
            }
    return found


def tracking(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What recording costs a training while the server refuses, hangs or fails."""
    from tests.faults.tracking_cost import recording_costs

    return recording_costs(folder, options.steps, options.rounds)


COMMANDS = {"kills": kills, "scale": scale, "tracking": tracking}


def main() -> None:
    """Runs one of them, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("what", choices=[*COMMANDS, "all"])
    parser.add_argument("--kills", type=int, default=100, help="how many moments")
    parser.add_argument("--seed", type=int, default=1, help="fixes the moments, and whom they hit")
    parser.add_argument("--storages", nargs="*", help="any of journal, sqlite, postgres")
    parser.add_argument("--candidates", type=int, default=10_000, help="of the large study")
    parser.add_argument("--rounds", type=int, default=3, help="of the measurement of tracking")
    parser.add_argument("--steps", type=int, default=2000, help="of its trainings")
    parser.add_argument("--out", type=Path, default=Path("outputs/faults.json"), help="gets the figures")
    options = parser.parse_args()
    # In memory where there is room for it: processes are killed here, not machines.
    folder = Path(tempfile.mkdtemp(prefix="bort-faults-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        found = json.loads(options.out.read_text()) if options.out.exists() else {}
        for name in COMMANDS if options.what == "all" else [options.what]:
            (folder / name).mkdir()
            began = time.monotonic()
            found[name] = {**COMMANDS[name](folder / name, options), "took": round(time.monotonic() - began, 1)}
            print(f"{name}: {json.dumps(found[name], indent=2)}", flush=True)
            write_json(options.out, found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
