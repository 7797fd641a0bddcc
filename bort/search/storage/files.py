"""Studies in files, locked by files beside them: an Optuna journal, or a SQLite database."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bort.errors import BortError, ConfigurationError, RecordError
from bort.files import drop_torn_line, parse_json, refuse_link, without_links
from bort.locks import FileLock
from bort.optuna_storage import open_database, stumbled

#: The start of a journal's line, by which one that was cut short is known.
_OPERATION = b'{"op_code":'


class FileLocks:
    """The locks of a study in a file: ``path.lock-study`` and ``path.claims/`` beside it.

    Args:
        path: The study's file.
        study: Name of the study, as several may share a file.

    Raises:
        OSError: The folder cannot be written.
        RecordError: The file, or the folder of its claims, is a symbolic link.
    """

    def __init__(self, path: Path, study: str) -> None:
        self._path = path
        self._claims = path.with_name(path.name + ".claims") / study
        for own in (path, self._claims.parent, self._claims):
            refuse_link(own)
        self._held: dict[int, FileLock] = {}
        self._claims.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_name(path.name + ".lock-study"))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the study."""
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def claim(self, number: int) -> bool:
        """Takes the candidate's lock file."""
        if number in self._held:
            return True
        # The last worker to leave takes the folder with it.
        self._claims.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._claims / f"{number}")
        if lock.acquire(wait=False):
            self._held[number] = lock
            return True
        lock.close()
        return False

    def release(self, number: int) -> None:
        """Removes the candidate's lock file: nobody else looks at it now, as the study is held."""
        lock = self._held.pop(number, None)
        if lock is not None:
            with suppress(FileNotFoundError):
                (self._claims / f"{number}").unlink()
            lock.close()

    def close(self) -> None:
        """Gives every candidate back and closes the lock."""
        with FileLocks.exclusive(self):
            for number in list(self._held):
                self.release(number)
            with suppress(OSError):
                self._claims.rmdir()
                self._claims.parent.rmdir()
        self._lock.close()


class JournalReader(FileLocks):
    """A study in an Optuna journal file that is only read.

    Args:
        path: The journal file.
        study: Name of the study.

    Raises:
        ConfigurationError: The file cannot be used, is no journal, or one of a newer Optuna.
    """

    def __init__(self, path: Path, study: str) -> None:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        with _opening(path):
            super().__init__(path, study)
            with self.exclusive():
                _check_journal(path)
                self.storage = JournalStorage(JournalFileBackend(str(path)))


class JournalCoordination(FileLocks):
    """A study in an Optuna journal file, with locks on files beside it.

    Everything written inside one :meth:`exclusive` goes to the file in one piece with one flush to the disk, which is what makes
    thousands of candidates a minute possible; Optuna alone would flush for every value.

    Args:
        path: The journal file.
        study: Name of the study.

    Raises:
        ConfigurationError: The file cannot be used, is no journal, or one of a newer Optuna.
    """

    def __init__(self, path: Path, study: str) -> None:
        with _opening(path):
            super().__init__(path, study)
            with super().exclusive():
                # Nothing is cut off before the file is known to be a journal.
                _check_journal(path)
                drop_torn_line(path)
                self.storage, self._backend = _journal(path)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the study; what is written inside reaches the file at the end, or not at all if the process dies before."""
        with super().exclusive():
            drop_torn_line(self._path)
            with self._backend.gathered():
                yield


class SqliteCoordination(FileLocks):
    """A study in a SQLite file, with locks on files beside it: its own are never waited for, so they cannot be in the way.

    Args:
        path: The database file.
        study: Name of the study.

    Raises:
        ConfigurationError: The file cannot be used, is no database, or one of another version of Optuna.
    """

    def __init__(self, path: Path, study: str) -> None:
        from optuna.exceptions import StorageInternalError
        from optuna.storages import get_storage
        from sqlalchemy.exc import SQLAlchemyError

        try:
            super().__init__(path, study)
            with super().exclusive():
                self.storage = get_storage(open_database(f"sqlite:///{path.absolute()}", key="storage.path", shown=path))
        except OSError as error:
            raise _unwritable(path, error) from error
        except (SQLAlchemyError, StorageInternalError) as error:
            raise ConfigurationError("storage.path", path, f"an intact database ({_reason(error)})") from error

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the study."""
        from optuna.exceptions import StorageInternalError

        with super().exclusive():
            try:
                yield
            except StorageInternalError as error:
                raise BortError(f"The study's database {self._path} cannot be used ({_reason(error)}).") from error


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Raise what goes wrong with a journal as a configuration error."""
    try:
        yield
    except RecordError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error
    except Exception as error:
        raise ConfigurationError("storage.path", path, stumbled(path, error)) from error


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError("storage.path", path, f"a file that can be written ({error})")


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def _check_journal(path: Path) -> None:
    """Refuse a file whose last complete line Optuna did not write; Optuna itself would notice when the next is added.

    Raises:
        ValueError: Says so.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        complete, _, torn = file.read().rpartition(b"\n")
    last = complete.rpartition(b"\n")[2]
    if not last and torn and not torn.startswith(_OPERATION[: len(torn)]):
        raise ValueError("its only line is no operation")
    operation = parse_json(last) if last else {"op_code": None}
    if not isinstance(operation, dict) or "op_code" not in operation:
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
                for number, log in enumerate(self._file.read_logs(log_number_from), log_number_from + 1):
                    self._written = max(self._written, number)
                    yield log
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
            lines, self._lines = "".join(self._lines).encode(), []
            if not lines:
                return
            end = path.stat().st_size if path.exists() else 0
            try:
                with open(path, "ab", opener=without_links) as file:
                    file.write(lines)
                    file.flush()
                    # The file itself is asked again at the next start, so that it also knows where each line begins.
                    os.fsync(file.fileno())
            except OSError as error:
                # All of it or nothing.
                with suppress(OSError):
                    os.truncate(path, end)
                raise BortError(
                    f"The study's journal {path} cannot be written ({error}). All before is kept: mend it, and the same command "
                    "goes on from there."
                ) from error

    backend = GatheringBackend()
    return JournalStorage(backend), backend
