"""Kills workers, their coordinator and their database at random moments of a search, and looks whether anything was lost.

A coordinator is the process that a user starts: it starts further workers on the same study and works itself. Killed, it leaves
them behind, as `bort search` does, and is started again as its user would. A worker that was killed is not replaced.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Imported before any worker is forked, which then shares it.
import alembic.config  # noqa: F401
import optuna.samplers
import optuna.storages  # noqa: F401
import scipy.optimize  # noqa: F401
import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401
import torch

from bort.search import worker as engine_room
from bort.search.storage.config import (
    JournalStorageConfig,
    MemoryStorageConfig,
    PostgresStorageConfig,
    SqliteStorageConfig,
    StorageConfig,
)
from bort.search.strategies.config import BoundConfig, OseConfig
from bort.search.worker import run_search
from tests.faults.postgres import Postgres
from tests.faults.training import check_files, check_result, comparable, problem
from tests.search.choices import STRATEGY_SETTINGS

#: With several workers only the paper's order leaves nothing to chance; alone, every strategy ends in the same result.
STRATEGIES: dict[str, Any] = {**STRATEGY_SETTINGS, "ose": OseConfig(), "bound": BoundConfig(budget=0.6)}
SEED = 11
STEP_SECONDS = 0.004
#: What one search may take at most.
LIMIT_SECONDS = 600.0
_SUBREAPER = 36


@dataclass
class Tally:
    """What was done and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    searches: int = 0
    candidates: int = 0
    rungs: int = 0
    rungs_again: int = 0
    checkpoints: int = 0
    lost: int = 0
    twice: int = 0
    different: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def row(self) -> dict[str, Any]:
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}


def undisturbed(strategy: str, folder: Path) -> dict[str, Any]:
    """Returns the result of a search that nobody kills."""
    return run_search(problem(), STRATEGIES[strategy], seed=SEED, storage=MemoryStorageConfig(), directory=folder)


def work(folder: Path, strategy: str, storage: StorageConfig) -> None:
    """Is one worker."""
    torch.set_num_threads(1)
    (folder / "workers" / str(os.getpid())).touch()
    found = run_search(
        problem(STEP_SECONDS, folder / "log"), STRATEGIES[strategy], seed=SEED, storage=storage, directory=folder / "search"
    )
    (folder / "results" / f"{os.getpid()}.json").write_text(json.dumps(found))


def coordinate(folder: Path, strategy: str, storage: StorageConfig, workers: int) -> None:
    """Is the process that starts the others, and works itself."""
    others = [fork(folder, lambda: work(folder, strategy, storage)) for _ in range(workers - 1)]
    work(folder, strategy, storage)
    for other in others:
        os.waitpid(other, 0)


def fork(folder: Path, what: Callable[[], None]) -> int:
    """Starts a process; what goes wrong in it is written to a file."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        what()
        status = 0
    except BaseException as error:
        name = f"{type(error).__name__} {os.getpid()}"
        (folder / "errors" / name).write_text(traceback.format_exc())
    os._exit(status)


class Round:
    """One search that is disturbed.

    Args:
        folder: Its folder.
        strategy: Its strategy.
        storage: Its storage.
        workers: How many work at it.
        seed: Fixes the moments and whom they hit.
        postgres: The server of its database, where it has one.
    """

    def __init__(
        self, folder: Path, strategy: str, storage: StorageConfig, workers: int, seed: int, postgres: Postgres | None = None
    ) -> None:
        self.folder, self.strategy, self.storage, self.workers, self.postgres = folder, strategy, storage, workers, postgres
        self.draw = random.Random(seed)
        self.tally = Tally(searches=1)
        self.coordinator = 0
        for name in ("workers", "results", "errors"):
            (folder / name).mkdir(parents=True)
        # Those whose coordinator was killed become this process's, which can then wait for them.
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)

    def run(self, kills: int, seconds: float) -> Tally:
        """Runs it, with so many kills on about so many seconds, and compares what it gives with ``undisturbed``."""
        began = time.monotonic()
        self._start()
        for _ in range(kills):
            self._watch(self.draw.uniform(0.0, 2.0 * seconds / (kills + 1)))
            if self._results() or time.monotonic() - began > LIMIT_SECONDS:
                break
            self._kill()
        while self._living() or not self._results():
            self._watch(0.05)
            if time.monotonic() - began > LIMIT_SECONDS:
                for process in self._living():
                    os.kill(process, signal.SIGKILL)
                raise AssertionError(f"{self.folder} does not end")
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def check(self, expected: dict[str, Any]) -> Tally:
        """Counts what was lost, counted twice, or came out different."""
        tally = self.tally
        names = {candidate["fingerprint"] for candidate in expected["candidates"]}
        for path in self._results():
            result = json.loads(path.read_text())
            found = Counter(candidate["fingerprint"] for candidate in result["candidates"])
            tally.lost += len(names - set(found))
            tally.twice += sum(count - 1 for count in found.values())
            tally.different += self._plain(result) != self._plain(expected)
            tally.candidates, tally.checkpoints = len(found), tally.checkpoints + check_result(result)
        lines = Counter((self.folder / "log").read_text().splitlines())
        tally.rungs, tally.rungs_again = len(lines), sum(lines.values()) - len(lines)
        tally.checkpoints += check_files(self.folder / "search")
        for path in (self.folder / "errors").iterdir():
            tally.refused[path.name.split()[0]] += 1
        return tally

    def _plain(self, result: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps(comparable(result)))
        if self.workers > 1:
            # Who was first is chance.
            del plain["history"]
        return plain

    def _start(self) -> None:
        self.coordinator = fork(self.folder, lambda: coordinate(self.folder, self.strategy, self.storage, self.workers))

    def _kill(self) -> None:
        others = [process for process in self._living() if process != self.coordinator]
        # Whoever works is hit most often, and the database as often as there is one.
        chances = {
            "worker": 5 if others else 0,
            "coordinator": 3,
            "database": 4 * bool(self.postgres),
            "connections": bool(self.postgres),
        }
        target = self.draw.choices(list(chances), list(chances.values()))[0]
        if target == "worker":
            os.kill(self.draw.choice(sorted(others)), signal.SIGKILL)
        elif target == "coordinator":
            if self.coordinator in self._living():
                os.kill(self.coordinator, signal.SIGKILL)
        elif target == "database":
            self.postgres.kill()
            self._watch(self.draw.uniform(0.0, 0.3))
            self.postgres.start()
        else:
            self.postgres.cut()
        self.tally.kills[target] += 1
        self.tally.checkpoints += check_files(self.folder / "search")

    def _watch(self, seconds: float) -> None:
        """Waits, and starts the coordinator again where it has gone without having finished."""
        until = time.monotonic() + seconds
        while True:
            if self.coordinator not in self._living() and not self._results():
                self._start()
            if time.monotonic() >= until:
                return
            time.sleep(0.01)

    def _results(self) -> list[Path]:
        return [path for path in (self.folder / "results").iterdir() if path.read_bytes().endswith(b"}")]

    def _living(self) -> set[int]:
        known = {int(path.name) for path in (self.folder / "workers").iterdir()} | {self.coordinator}
        living = set()
        for process in known:
            # One whose coordinator lives is waited for by that, and one that is gone by nobody.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process, os.WNOHANG)
            try:
                state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state not in "ZX":
                living.add(process)
        return living


def campaign(
    folder: Path, kills: int, seed: int, postgres: Postgres | None, storages: tuple[str, ...], each: int = 5
) -> dict[str, Tally]:
    """Disturbs searches until so many kills were made, and returns what came of it for each storage."""
    engine_room.ATTEMPT_SECONDS, engine_room.WAIT_SECONDS = 0.1, 0.05
    torch.set_num_threads(1)
    tallies = {name: Tally() for name in storages}
    expected: dict[str, dict[str, Any]] = {}
    made = number = 0
    while made < kills:
        name = storages[number % len(storages)]
        # Two of three searches have several workers.
        alone = list(STRATEGIES)[number // (3 * len(storages)) % len(STRATEGIES)]
        workers, strategy = (1, alone) if number // len(storages) % 3 == 2 else (3, "ose")
        if strategy not in expected:
            expected[strategy] = undisturbed(strategy, folder / f"undisturbed-{strategy}")
        place = folder / f"{number:03d}-{name}-{strategy}-{workers}"
        place.mkdir()
        disturbed = Round(
            place,
            strategy,
            storage_of(name, place, number, postgres),
            workers,
            seed * 1000 + number,
            postgres if name == "postgres" else None,
        )
        steps = sum(candidate["steps"] for candidate in expected[strategy]["candidates"])
        tally = disturbed.run(min(each, kills - made), 1.0 + 2.0 * steps * STEP_SECONDS / workers)
        tallies[name].add(disturbed.check(expected[strategy]))
        made += sum(tally.kills.values())
        number += 1
    return tallies


def storage_of(name: str, folder: Path, number: int, postgres: Postgres | None) -> StorageConfig:
    """Returns a storage of that kind that nobody has used."""
    if name == "postgres":
        assert postgres is not None
        return PostgresStorageConfig(url=postgres.database(f"{folder.name}-{os.getpid()}"))
    kinds = {"journal": JournalStorageConfig, "sqlite": SqliteStorageConfig}
    return kinds[name](path=str(folder / f"study.{name}"))
