"""What was recorded and not delivered yet, wherever it lies below a folder, and its delivery by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from bort.errors import RecordError
from bort.files import read_json
from bort.locks import exclusive
from bort.observer import Observer, Quiet
from bort.redaction import redact_patterns
from bort.tracking.config import TrackingConfig
from bort.tracking.delivery import Delivery, SyncReport
from bort.tracking.spool import Spool

#: Ends the name of the file that says how far a spool was delivered to which store.
CURSOR = ".cursor.json"


@dataclass(frozen=True)
class Waiting:
    """A spool with events that a store has not got.

    Args:
        spool: Its file.
        config: The store that they were recorded for; a password in its address is struck out.
        bytes: How much waits.
    """

    spool: Path
    config: TrackingConfig
    bytes: int


def waiting(folder: Path | str) -> list[Waiting]:
    """Returns every spool below a folder that waits to be delivered, once for each store that it was recorded for."""
    found: list[Waiting] = []
    for cursor in sorted(Path(folder).rglob(f"*{CURSOR}")):
        spool = cursor.with_name(cursor.name.removesuffix(CURSOR) + ".jsonl")
        try:
            states = read_json(cursor)["stores"].values()
            configs = [TrackingConfig(True, state["store"], state["experiment"], state["artifacts"]) for state in states]
        except (RecordError, KeyError, TypeError, AttributeError):
            # Written by an older version, or damaged: the same command that recorded it delivers it.
            continue
        for config in configs:
            left = Delivery(config, Spool(spool), Quiet()).left()
            if left:
                found.append(Waiting(spool, config, left))
    return found


def deliver(found: Waiting, observer: Observer, *, uri: str | None = None) -> SyncReport | None:
    """Delivers what waits; ``None`` where a living worker holds the spool, and will do it itself.

    Args:
        found: What waits.
        observer: Told of progress, and of a store that is down.
        uri: The store's address with its password, where it has one.
    """
    config = found.config if uri is None or redact_patterns(uri) != found.config.uri else replace(found.config, uri=uri)
    with held(found.spool) as free:
        return Delivery(config, Spool(found.spool), observer).run() if free else None


@contextmanager
def held(spool: Path) -> Iterator[bool]:
    """Holds a spool, as the worker that writes it does; yields whether nobody else did."""
    with exclusive(spool.parent, wait=False, name=spool.with_suffix(".lock").name) as free:
        yield free


@contextmanager
def first_free(folder: Path) -> Iterator[str]:
    """Holds the first spool of a stage's folder that no other worker of the stage holds; yields its name, for the tracker."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in count():
        name = f"worker-{number}"
        with held(folder / f"{name}.jsonl") as free:
            if free:
                yield name
                return


def deliver_left(config: TrackingConfig, folder: Path, observer: Observer) -> None:
    """Delivers what workers that were killed have left in a stage's folder."""
    if not config.enabled:
        return
    for spool in sorted(folder.glob("*.jsonl")):
        with held(spool) as free:
            if free:
                Delivery(config, Spool(spool), observer).run()
