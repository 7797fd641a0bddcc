"""Where a study is kept and how its workers keep out of each other's way: a journal file, a PostgreSQL database, or memory.

Two locks are enough. One is held while a worker reads the study, decides and writes, so that decisions follow one another. The
other kind, one for each candidate, is held while a worker trains it. Both belong to the process: when it dies, at whatever
moment, the operating system (or the database, with the connection) takes them back, and the candidate can be taken up again at
once. So there are no leases to renew and no clocks to agree on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from bort.errors import BortError, ConfigurationError
from bort.redaction import redact
from bort.search.config import JournalStorageConfig, PostgresStorageConfig, StorageConfig

if TYPE_CHECKING:
    import optuna


class Coordination(Protocol):
    """A study's storage with its locks."""

    @property
    def storage(self) -> optuna.storages.BaseStorage:
        """The Optuna storage; to be used only inside :meth:`exclusive`."""

    def exclusive(self) -> Any:
        """Returns a context in which no other worker reads or writes the study."""

    def claim(self, number: int) -> bool:
        """Takes trial ``number`` for this worker; ``False`` where a living worker has it. Only inside :meth:`exclusive`."""

    def release(self, number: int) -> None:
        """Gives trial ``number`` back. Only inside :meth:`exclusive`."""

    def close(self) -> None:
        """Gives everything back."""


def open_coordination(config: StorageConfig, directory: Path) -> Coordination:
    """Opens the storage of a configuration.

    Raises:
        ConfigurationError: The storage is unknown, incomplete or cannot be reached.
    """
    if config.name == "memory":
        return MemoryCoordination()
    if config.name == "journal":
        path = getattr(config, "path", None) if isinstance(config, JournalStorageConfig) else None
        return JournalCoordination(Path(path) if path else Path(directory) / "study.journal", config.study)
    if config.name == "postgres" and isinstance(config, PostgresStorageConfig):
        return PostgresCoordination(config.url, config.study)
    raise ConfigurationError("storage", config.name, "use journal, postgres or memory")


def check_storage(config: StorageConfig) -> None:
    """Refuses a storage that cannot be used, and leaves nothing in one that can: to be asked before anything costly is begun.

    Raises:
        ConfigurationError: A database cannot be reached, or a journal can neither be read nor written.
    """
    if isinstance(config, PostgresStorageConfig):
        connect, trouble = _connector(config.url)
        try:
            connect().close()
        except trouble as error:
            raise _unreachable(config.url, error) from None
    if isinstance(config, JournalStorageConfig) and config.path:
        path = Path(config.path)
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not os.access(there, os.W_OK) or there.is_dir() == (there == path):
            raise ConfigurationError("storage.path", path, f"a file that can be written is needed, and {there} is in the way")


class MemoryCoordination:
    """A study in the memory of one process."""

    def __init__(self) -> None:
        from optuna.storages import InMemoryStorage

        self.storage = InMemoryStorage()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """There is nobody to exclude."""
        yield

    def claim(self, number: int) -> bool:
        """There is nobody to compete with."""
        return True

    def release(self, number: int) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is open."""


class JournalCoordination:
    """A study in an Optuna journal file, with locks on files beside it.

    Everything written inside one :meth:`exclusive` goes to the file in one piece with one flush to the disk, which is what makes
    thousands of candidates a minute possible; Optuna alone would flush for every value.

    Args:
        path: The journal file; ``path.lock-study`` and ``path.claims/`` are kept beside it.
        study: Name of the study, as several may share a file.
    """

    def __init__(self, path: Path, study: str) -> None:
        self._path = path
        self._claims = path.with_name(path.name + ".claims") / study
        self._held: dict[int, IO[bytes]] = {}
        try:
            self._claims.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_name(path.name + ".lock-study").open("ab")
            with self.exclusive():
                _drop_torn_line(path)
                _check_journal(path)
                self.storage, self._backend = _journal(path)
        except OSError as error:
            raise ConfigurationError("storage.path", path, f"a file that can be written is needed ({error})") from error
        except (ValueError, KeyError) as error:
            raise ConfigurationError("storage.path", path, f"it is no Optuna journal, or a damaged one ({error})") from error

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the study; what is written inside reaches the file at the end, or not at all if the process dies before."""
        _lock(self._lock, wait=True)
        try:
            backend = getattr(self, "_backend", None)
            if backend is None:
                yield
                return
            _drop_torn_line(self._path)
            try:
                with backend.gathered():
                    yield
            except OSError as error:
                raise BortError(f"The study's journal {self._path} cannot be written ({error}).") from error
        finally:
            _unlock(self._lock)

    def claim(self, number: int) -> bool:
        """Takes the candidate's lock file."""
        if number in self._held:
            return True
        # The last worker to leave takes the folder with it.
        self._claims.mkdir(parents=True, exist_ok=True)
        file = (self._claims / f"{number}").open("ab")
        if _lock(file, wait=False):
            self._held[number] = file
            return True
        file.close()
        return False

    def release(self, number: int) -> None:
        """Removes the candidate's lock file: nobody else looks at it now, as the study is held."""
        file = self._held.pop(number, None)
        if file is not None:
            with suppress(FileNotFoundError):
                (self._claims / f"{number}").unlink()
            file.close()

    def close(self) -> None:
        """Gives every candidate back and closes the lock."""
        with self.exclusive():
            for number in list(self._held):
                self.release(number)
            with suppress(OSError):
                self._claims.rmdir()
                self._claims.parent.rmdir()
        self._lock.close()


class PostgresCoordination:
    """A study in a PostgreSQL database, with its advisory locks, which end with the connection that holds them.

    Args:
        url: ``postgresql://user:password@host:port/database``; the password never shows in a message.
        study: Name of the study.
    """

    def __init__(self, url: str, study: str) -> None:
        self._url = url
        self._key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:3], "big")
        self._held: set[int] = set()
        self._connect, self._trouble = _connector(url)
        try:
            self._connection = self._connect()
            # The tables are made under the lock: two workers that make them at once would trip over each other.
            with self.exclusive():
                self.storage, self._engine = _relational(url)
        except BortError:
            raise
        except Exception as error:
            raise _unreachable(url, error) from None

    def _call(self, function: str, key: int) -> bool:
        try:
            row = self._connection.execute(f"SELECT {function}(%s, %s)", (self._key, key)).fetchone()
        except self._trouble as error:
            raise _unreachable(self._url, error) from None
        return bool(row and row[0] is not False)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the study; after a lost connection, what it had claimed is claimed again where it is still free."""
        if self._connection.closed or self._connection.broken:
            self._connection = self._connect()
            self._held = {number for number in self._held if self._call("pg_try_advisory_lock", number + 1)}
        self._call("pg_advisory_lock", 0)
        try:
            yield
        finally:
            with suppress(BortError):
                self._call("pg_advisory_unlock", 0)

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
        self._connection.close()
        self._engine.dispose()


def _connector(url: str) -> tuple[Callable[[], Any], type[Exception]]:
    """Returns what opens a connection to a PostgreSQL database, and the base of the errors that it raises.

    Raises:
        ConfigurationError: The URL is of another kind.
        BortError: The driver is not installed.
    """
    if not re.match(r"postgres(ql)?(\+psycopg)?://", url):
        raise ConfigurationError("storage.url", redact(url), "postgresql://user:password@host:port/database is needed")
    try:
        psycopg: Any = import_module("psycopg")
    except ImportError as error:
        raise BortError("storage=postgres needs the extra bort[postgres]: pip install 'bort[postgres]'.") from error

    def connect() -> Any:
        return psycopg.connect(
            re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql://", url),
            autocommit=True,
            connect_timeout=10,
            # A worker that is cut off is noticed within a minute, and its candidate given to another.
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            options="-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
        )

    return connect, psycopg.Error


def _unreachable(url: str, error: Exception) -> ConfigurationError:
    reason = " ".join(redact(str(error)).split())
    return ConfigurationError("storage.url", redact(url), f"the database cannot be used ({reason})")


def _lock(file: IO[bytes], *, wait: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(file: IO[bytes]) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)


def _drop_torn_line(path: Path) -> None:
    """Cuts off a last line without an end, which a process killed while writing leaves behind: Optuna refuses what follows it."""
    if not path.exists() or not (size := path.stat().st_size):
        return
    with path.open("rb+") as file:
        end = size
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def _check_journal(path: Path) -> None:
    """Refuses a file whose last line Optuna did not write; Optuna itself would notice when the next is added.

    Raises:
        ValueError: Says so.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    if last and "op_code" not in json.loads(last):
        raise ValueError("its last line is no operation")


def _journal(path: Path) -> tuple[Any, Any]:
    """Opens an Optuna journal whose writes can be gathered."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

    class GatheringBackend(BaseJournalBackend):
        """Reads and writes a journal file that no other worker writes meanwhile, and writes all at once at the end."""

        def __init__(self) -> None:
            self._file = JournalFileBackend(str(path))
            self._lines: list[str] = []
            #: Logs that the file holds, as far as this process knows.
            self._written = 0

        def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
            if not self._lines or log_number_from < self._written:
                yield from self._file.read_logs(log_number_from)
            for line in self._lines[max(0, log_number_from - self._written) :]:
                yield json.loads(line)

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            self._lines.extend(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)

        @contextmanager
        def gathered(self) -> Iterator[None]:
            # Others may have written since; a log's number is its line's, so the lines are counted before any is added.
            self._written += sum(1 for _ in self._file.read_logs(self._written))
            try:
                yield
            finally:
                self._flush()

        def _flush(self) -> None:
            if self._lines:
                with path.open("ab") as file:
                    file.write("".join(self._lines).encode())
                    file.flush()
                    os.fsync(file.fileno())
                # The file itself is asked again at the next start, so that it also knows where each line begins.
                self._lines.clear()

    backend = GatheringBackend()
    return JournalStorage(backend), backend


def _relational(url: str) -> tuple[Any, Any]:
    """Opens an Optuna storage in a database, behind the cache through which its studies use it."""
    from optuna.storages import RDBStorage, get_storage

    address = re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql+psycopg://", url)
    storage = RDBStorage(address, engine_kwargs={"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}})
    return get_storage(storage), storage.engine


def pause(seconds: float) -> None:
    """Waits for other workers."""
    time.sleep(seconds)
