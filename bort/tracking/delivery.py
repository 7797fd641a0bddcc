"""Delivery of a spool to a store: in batches, in order, each event once, whatever is interrupted when."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bort.errors import RecordError
from bort.files import digest, read_json, write_json
from bort.locks import exclusive
from bort.observer import Observer
from bort.redaction import redact, redact_patterns
from bort.tracking.config import TrackingConfig
from bort.tracking.errors import StoreDownError, StoreRefusesError, StoreReplacedError, StoreSilentError
from bort.tracking.ownership import mark, owned
from bort.tracking.spool import Spool
from bort.tracking.staging import Results

#: Events between two writings of the cursor: what is sent again, without effect, after a kill in mid-delivery.
BATCH = 400

#: Files are copied one by one, so a batch ends after so many of them.
BATCH_ARTIFACTS = 10

#: Attempts at a store that fails in the middle, and seconds between two of them.
ATTEMPTS, PAUSE_SECONDS = 2, 1.0

#: How long a delivery waits for another process that delivers from the same directory.
LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class SyncReport:
    """What a delivery did.

    Args:
        delivered: Events delivered now.
        refused: What the store would not take, a sentence each; it is not tried again.
        error: Why the delivery stopped early, without passwords; None where everything was delivered.
        reached: Whether the store answered, and refuses everything.
    """

    delivered: int = 0
    refused: tuple[str, ...] = ()
    error: str | None = None
    reached: bool = False


class Sink(Protocol):
    """Where events are delivered to."""

    experiment_id: str
    runs: dict[str, str]

    def deliver(self, events: list[dict[str, Any]]) -> list[str]:
        """Delivers events in order and returns what was refused; raises :class:`StoreDownError` where the store cannot be reached.

        Delivering the same events again must have no further effect.
        """


class Delivery:
    """The cursor of one spool and the delivery from it on.

    The cursor (``<spool>.cursor.json``) holds for each store the offset up to which events were delivered and the ids of the
    runs. It is written, atomically, after each batch. A kill between delivery and cursor repeats one batch, which changes
    nothing: runs are found again by their key, and the store drops equal points, parameters, tags, inputs and files.
    """

    def __init__(self, config: TrackingConfig, spool: Spool, observer: Observer, results: Results | None = None) -> None:
        self._config, self._spool, self._observer = config, spool, observer
        self._results = results or Results(home_of(spool.path))
        self._cursor = spool.path.with_name(f"{spool.path.stem}.cursor.json")
        self._warned = False
        self._sink: Sink | None = None

    def state(self) -> dict[str, Any]:
        """Returns the cursor for the configured store: ``offset``, ``experiment_id``, ``runs``."""
        file = self._config.sqlite_file()
        if file is not None and not file.exists():
            return {}
        state: dict[str, Any] = self._all_states().get(self._store(), {})
        return state

    def announce(self) -> None:
        """Write down where the spool is to be delivered to, with this user's mark, so that it can be delivered by hand."""
        states = self._all_states()
        state = states.get(self._store(), {})
        if not owned(state):
            marked = mark(self._described())
            self._remember({**state, **({"mark": marked} if marked else {})})

    def run_ids(self) -> dict[str, str]:
        """Returns MLflow's run ids by key, of the runs delivered so far."""
        return dict(self.state().get("runs", {}))

    def left(self) -> int:
        """Returns how many bytes of the spool the store has not got."""
        return max(0, self._spool.size() - int(self.state().get("offset", 0)))

    def run(self) -> SyncReport:
        """Delivers what is pending; see :meth:`bort.tracking.Tracker.sync`."""
        if not self.left():
            return SyncReport()
        # Workers of one stage end together, and each would create the run that is missing.
        with exclusive(self._spool.path.parent, wait=LOCK_SECONDS, name="delivery.lock") as alone:
            if not alone:
                return SyncReport(error=f"another process is delivering from {self._spool.path.parent}")
            trouble: Exception = StoreDownError("")
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(PAUSE_SECONDS)
                try:
                    return self._deliver()
                except StoreReplacedError as error:
                    self._remember({})
                    trouble = error
                except StoreDownError as error:
                    trouble = error
                    if isinstance(error, StoreSilentError | StoreRefusesError):
                        break
                # What the store did before it failed is asked of it again.
                self._sink = None
            return self._down(trouble)

    def _deliver(self) -> SyncReport:
        self._reach()
        state = self.state()
        offset = int(state.get("offset", 0))
        sink = self._sink or self._connect(state)
        total = self._spool.size()
        delivered, refused = 0, list[str]()
        aside = [str(one) for one in state.get("refused", [])]
        for end, events in self._batches(offset):
            refused += sink.deliver(events)
            delivered += len(events)
            progress = {"offset": end, "experiment_id": sink.experiment_id, "runs": sink.runs}
            self._remember({**progress, **({"refused": aside + refused} if aside or refused else {})})
            self._observer.progress("tracking", end - offset, total - offset)
        if refused:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            self._observer.warn(
                f"MLflow did not take all that was recorded: {refused[0]}{more}. "
                f"Refused events are set aside and listed in {self._cursor}."
            )
        return SyncReport(delivered, tuple(refused))

    def _batches(self, offset: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        events: list[dict[str, Any]] = []
        artifacts, end, reached = 0, offset, offset
        for end, event in self._spool.read(offset):
            if event is not None:
                events.append(event)
                artifacts += event["event"] in ("artifact", "model")
            if len(events) >= BATCH or artifacts >= BATCH_ARTIFACTS:
                yield end, events
                events, artifacts, reached = [], 0, end
        if end > reached:
            yield end, events

    def _connect(self, state: dict[str, Any]) -> Sink:
        from bort.tracking.sink import MlflowSink

        events = (event for _, event in self._spool.read() if event is not None)
        spool_id = next((str(event["id"]) for event in events if event["event"] == "spool"), "")
        folder = self._spool.path.absolute().parent
        self._sink = MlflowSink(self._config, folder, spool_id, dict(state.get("runs", {})), self._results)
        return self._sink

    def _reach(self) -> None:
        """Knocks at a store behind a network address first: MLflow itself would try for minutes."""
        host = self._config.host()
        if host is None:
            return
        try:
            with socket.create_connection(host, timeout=min(self._config.timeout, 5)):
                pass
        except OSError as error:
            raise StoreSilentError(f"{host[0]}:{host[1]} does not answer ({error})") from error

    def _down(self, error: Exception) -> SyncReport:
        reason, reached = redact(str(error)), isinstance(error, StoreRefusesError)
        if not self._warned:
            self._warned = True
            self._observer.warn(
                f"MLflow at {redact(self._config.uri)} {'refuses delivery' if reached else 'could not be reached'} ({reason}); "
                f"everything is kept in {self._spool.path} and will be delivered when it can be."
            )
        return SyncReport(error=reason, reached=reached)

    def _store(self) -> str:
        # Of the address without its password: a changed password is still the same store.
        return digest([redact_patterns(self._config.absolute_uri()), self._config.experiment])[:16]

    def _all_states(self) -> dict[str, Any]:
        try:
            states: dict[str, Any] = read_json(self._cursor)["stores"] if self._cursor.exists() else {}
            return {store: state for store, state in states.items() if _sound(state)}
        except (RecordError, KeyError, TypeError, AttributeError):
            # A cursor that cannot be read is begun again: what was delivered is recognised by the store.
            return {}

    def _remember(self, state: dict[str, Any]) -> None:
        states = self._all_states()
        marked = states.get(self._store(), {}).get("mark")
        states[self._store()] = {**({"mark": marked} if marked else {}), **state, **self._described()}
        write_json(self._cursor, {"schema": 1, "stores": states})

    def _described(self) -> dict[str, Any]:
        described = {name: getattr(self._config, name) for name in ("experiment", "artifacts")}
        return {**described, "store": redact_patterns(self._config.absolute_uri())}


def home_of(spool: Path) -> Path:
    """Return the folder of a run by one of its spools, which lies in ``<stage>/tracking/`` below it."""
    return spool.absolute().parent.parent.parent


def _sound(state: Any) -> bool:
    """Whether a cursor's word on a store can be used."""
    offset, runs = (state.get("offset", 0), state.get("runs", {})) if isinstance(state, dict) else (None, None)
    return type(offset) is int and offset >= 0 and isinstance(runs, dict)
