"""The fault tests at full size: `python -m tests.faults kills|scale|tracking|all`; figures go to a JSON file."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
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
    from bort.search.config import JournalStorageConfig, PostgresStorageConfig, SqliteStorageConfig, StorageConfig
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
    """What recording costs a training while the server refuses, hangs or fails, in interleaved rounds."""
    from bort.architecture import Architecture
    from bort.distillation.config import LossConfig, TrainConfig
    from bort.distillation.training import distill
    from bort.events import Quiet
    from bort.tracking import Recording, Tracker, TrackingConfig
    from tests.distillation.conftest import make_world
    from tests.faults.mlflow_server import Proxy
    from tests.faults.postgres import free_port

    world = make_world(folder / "world")
    train = TrainConfig(batch_size=4, learning_rate=5e-3, warmup_steps=2, log_every=1, heldout_blocks=None)
    arguments = world.arguments(LossConfig(hidden=1.0, relations=1.0, relation_heads=2), train=train)
    seconds: dict[str, list[float]] = {name: [] for name in ("no tracking", "refuses", "hangs", "answers 500")}
    processor: dict[str, list[float]] = {name: [] for name in seconds}
    afterwards: dict[str, list[float]] = {name: [] for name in list(seconds)[1:]}
    for number in range(options.rounds + 1):
        for name in seconds:
            proxy = Proxy(free_port())
            proxy.judge = lambda method, path, name=name: "hang" if name == "hangs" else "error"
            if name not in ("no tracking", "refuses"):
                proxy.open()
            place = folder / f"{number}-{name}"
            tracker = Tracker(TrackingConfig(uri=proxy.uri, timeout=2), place)
            observer = Quiet() if name == "no tracking" else Recording(tracker.run("distill", key="distill"))
            began = time.perf_counter(), time.process_time()
            distill(Architecture(2, 2, 32, 64), **arguments, steps=options.steps, directory=place / "student", observer=observer)
            took = time.perf_counter() - began[0], time.process_time() - began[1]
            began = time.perf_counter(), 0.0
            assert name == "no tracking" or tracker.sync().error
            assert not proxy.requests["pass"]
            proxy.close()
            # The first round warms up.
            if number:
                seconds[name].append(took[0])
                processor[name].append(took[1])
                if name in afterwards:
                    afterwards[name].append(time.perf_counter() - began[0])
    base = "no tracking"
    return {
        name: {
            "seconds": statistics.median(seconds[name]),
            "processor seconds": statistics.median(processor[name]),
            "slower": more(seconds[name], seconds[base]),
            "more processor time": more(processor[name], processor[base]),
            "seconds until the delivery is given up": statistics.median(afterwards.get(name, [0.0])),
        }
        for name in seconds
    }


def more(times: list[float], base: list[float]) -> dict[str, float]:
    """Returns by how much the one take longer than the other, round by round: the mean on a log scale, with its 95 % interval."""
    import numpy as np
    from scipy.stats import bootstrap

    ratios = np.log(np.array(times) / np.array(base))
    mean = float(np.exp(ratios.mean()) - 1.0)
    if len(ratios) < 3 or not ratios.any():
        return {"mean": mean}
    interval = bootstrap((ratios,), np.mean, rng=0).confidence_interval
    return {"mean": mean, "low": float(np.exp(interval.low) - 1.0), "high": float(np.exp(interval.high) - 1.0)}


COMMANDS = {"kills": kills, "scale": scale, "tracking": tracking}


def main() -> None:
    """Runs one of them, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("what", choices=[*COMMANDS, "all"])
    parser.add_argument("--kills", type=int, default=100, help="how many moments")
    parser.add_argument("--seed", type=int, default=1, help="fixes the moments, and whom they hit")
    parser.add_argument("--storages", nargs="*", help="any of journal, sqlite, postgres")
    parser.add_argument("--candidates", type=int, default=10_000, help="of the large study")
    parser.add_argument("--rounds", type=int, default=7, help="of the measurement of tracking")
    parser.add_argument("--steps", type=int, default=400, help="of its trainings")
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
