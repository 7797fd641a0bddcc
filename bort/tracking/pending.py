"""What was recorded and not delivered yet, wherever it lies below a folder, and its delivery by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from bort.errors import RecordError
from bort.files import read_json, refuse_link
from bort.locks import exclusive
from bort.observer import Observer, Quiet
from bort.redaction import redact_patterns
from bort.tracking.config import TrackingConfig
from bort.tracking.delivery import Delivery, SyncReport, home_of
from bort.tracking.ownership import owned
from bort.tracking.spool import Spool
from bort.tracking.staging import Results

#: Ends the name of the file that says how far a spool was delivered to which store.
CURSOR = ".cursor.json"


@dataclass(frozen=True)
class Waiting:
    """A spool with events that a store has not got.

    Args:
        spool: Its file.
        config: The store that they were recorded for; a password in its address is struck out.
        bytes: How much waits.
        home: The run's folder.
        owned: Whether a run of this user recorded them for that store.
    """

    spool: Path
    config: TrackingConfig
    bytes: int
    home: Path
    owned: bool


def waiting(folder: Path | str) -> list[Waiting]:
    """Returns every spool below a folder that waits to be delivered, once for each store that it was recorded for."""
    found: list[Waiting] = []
    top = Path(folder).resolve()
    for cursor in sorted(Path(folder).rglob(f"*{CURSOR}")):
        spool = cursor.with_name(cursor.name.removesuffix(CURSOR) + ".jsonl")
        try:
            states = read_json(cursor)["stores"].values()
            configs = [(TrackingConfig(True, state["store"], state["experiment"], state["artifacts"]), state) for state in states]
        except (RecordError, KeyError, TypeError, AttributeError):
            # Written by an older version, or damaged: the same command that recorded it delivers it.
            continue
        for config, state in configs:
            left = Delivery(config, Spool(spool), Quiet()).left()
            if left:
                home = home_of(spool.parent.resolve() / spool.name)
                found.append(Waiting(spool, config, left, home if home.is_relative_to(top) else top, owned(state)))
    return found


def deliver(found: Waiting, observer: Observer, *, uri: str | None = None) -> SyncReport | None:
    """Delivers what waits; ``None`` where a living worker holds the spool, and will do it itself.

    Args:
        found: What waits.
        observer: Told of progress, and of a store that is down.
        uri: The store's address with its password, if it has one. What no run of this user recorded is delivered only to the store
            that is named here.
    """
    config = found.config
    named = uri is not None and redact_patterns(replace(config, uri=uri).absolute_uri()) == config.uri
    if not (named or found.owned):
        shown = redact_patterns(config.uri)
        return SyncReport(error=f"no run of this user recorded it for that store; if you trust it, add --uri {shown}")
    if named and uri is not None:
        # The place of artifacts is that of the store, unless it was recorded by a run of this user.
        config = replace(config, uri=uri, artifacts=config.artifacts if found.owned else None)
    try:
        with held(found.spool) as free:
            return Delivery(config, Spool(found.spool), observer, Results(found.home)).run() if free else None
    except RecordError as error:
        return SyncReport(error=str(error).rstrip("."))


@contextmanager
def held(spool: Path) -> Iterator[bool]:
    """Holds a spool, as the worker that writes it does; yields whether nobody else did."""
    with exclusive(spool.parent, wait=False, name=spool.with_suffix(".lock").name) as free:
        yield free


@contextmanager
def first_free(folder: Path) -> Iterator[str]:
    """Holds the first spool of a stage's folder that no other worker of the stage holds; yields its name, for the tracker."""
    refuse_link(folder)
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
