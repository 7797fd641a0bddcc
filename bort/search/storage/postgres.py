"""A study in a PostgreSQL database, locked by the database itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from bort.errors import BortError, ConfigurationError
from bort.optuna_storage import open_database
from bort.redaction import redact
from bort.search.storage.errors import StudyLostError

_SCHEME = re.compile(r"^postgres(ql)?(\+psycopg)?://")


class PostgresLocks:
    """The locks of a study in a PostgreSQL database: advisory ones, which end with the connection that holds them.

    Args:
        url: ``postgresql://user:password@host:port/database``; the password never shows in a message.
        study: Name of the study.

    Raises:
        ConfigurationError: The database cannot be used.
        BortError: The driver is not installed.
    """

    def __init__(self, url: str, study: str) -> None:
        self._psycopg = _driver(url)
        self._url = url
        self._key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:3], "big")
        self._held: set[int] = set()
        self._open_now = False
        try:
            self._open()
        except Exception as error:
            if not _lost(error, self._psycopg):
                raise
            raise _unreachable(url, error) from None

    def _open(self) -> None:
        self._connection = _connect(self._psycopg, self._url)
        self._open_now = True

    def _call(self, function: str, key: int) -> bool:
        row = self._connection.execute(f"SELECT {function}(%s, %s)", (self._key, key)).fetchone()
        self._connection.commit()
        return bool(row and row[0] is not False)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the study."""
        try:
            if not self._open_now:
                self._open()
            self._call("pg_advisory_lock", 0)
            yield
            self._call("pg_advisory_unlock", 0)
        except BaseException as error:
            # Whatever happened inside, the locks go with the connection.
            self.close()
            if not _lost(error, self._psycopg):
                raise
            raise StudyLostError(
                f"The database {redact(self._url)} was lost ({_reason(error)}). All that is recorded is in it: once it can be "
                "reached, the same command goes on from there."
            ) from None

    def claim(self, number: int) -> bool:
        """Takes the candidate's advisory lock."""
        if number not in self._held and self._call("pg_try_advisory_lock", number + 1):
            self._held.add(number)
        return number in self._held

    def release(self, number: int) -> None:
        """Gives the candidate's advisory lock back."""
        if number in self._held:
            self._held.discard(number)
            self._call("pg_advisory_unlock", number + 1)

    def close(self) -> None:
        """Closes the connection, and with it every lock."""
        self._held.clear()
        self._open_now = False
        with suppress(self._psycopg.Error):
            self._connection.close()


class PostgresCoordination(PostgresLocks):
    """A study in a PostgreSQL database, with its locks.

    Locks and writes go through one connection. A worker that was cut off, and whose locks others may have by now, can therefore
    write nothing more either, before it has read the study anew.

    Args:
        url: ``postgresql://user:password@host:port/database``; the password never shows in a message.
        study: Name of the study.

    Raises:
        ConfigurationError: The database cannot be used, or holds the tables of another version of Optuna.
        BortError: The driver is not installed.
    """

    def _open(self) -> None:
        """Opens the one connection, and the storage on it."""
        from optuna.storages import get_storage
        from sqlalchemy.pool import StaticPool

        self._connection = connection = _connect(self._psycopg, self._url)
        unused = [connection]

        def hand_out() -> Any:
            if not unused:
                raise self._psycopg.OperationalError("the connection was cut")
            return unused.pop()

        # The tables are made under the lock: two workers that make them at once would trip over each other.
        self._call("pg_advisory_lock", 0)
        address = _SCHEME.sub("postgresql+psycopg://", self._url)
        storage = open_database(address, key="storage.url", shown=redact(self._url), creator=hand_out, poolclass=StaticPool)
        self._call("pg_advisory_unlock", 0)
        self.storage, self._engine = get_storage(storage), storage.engine
        self._open_now = True

    def close(self) -> None:
        """Closes the storage and its connection, and with it every lock."""
        if self._open_now:
            self._open_now = False
            self._engine.dispose()
        super().close()


def check_database(url: str) -> None:
    """Refuses a database that cannot be reached.

    Raises:
        ConfigurationError: Says why, without the password.
        BortError: The driver is not installed.
    """
    psycopg = _driver(url)
    try:
        _connect(psycopg, url).close()
    except psycopg.Error as error:
        raise _unreachable(url, error) from None


def _driver(url: str) -> Any:
    """Returns psycopg.

    Raises:
        ConfigurationError: The URL is of another kind.
        BortError: The driver is not installed.
    """
    if not _SCHEME.match(url):
        raise ConfigurationError(
            "storage.url", redact(url), "postgresql://user:password@host:port/database, here or in BORT_STORAGE_URL"
        )
    try:
        return import_module("psycopg")
    except ImportError as error:
        raise BortError("storage=postgres needs the extra bort[postgres]: pip install 'bort[postgres]'.") from error


def _connect(psycopg: Any, url: str) -> Any:
    return psycopg.connect(
        _SCHEME.sub("postgresql://", url),
        connect_timeout=10,
        # A worker that is cut off is noticed within a minute, by both sides, and its candidate given to another.
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        tcp_user_timeout=60_000,
        options="-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3 -c tcp_user_timeout=60000",
    )


def _lost(error: BaseException, psycopg: Any) -> bool:
    """Tells a database that is gone, cut off or without room from a mistake in what it was asked."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _reason(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return " ".join(redact(str(error)).split())


def _unreachable(url: str, error: Exception) -> ConfigurationError:
    return ConfigurationError("storage.url", redact(url), f"the address of a database that accepts connections ({_reason(error)})")
