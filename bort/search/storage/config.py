"""Settings of a study's storage, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from bort.errors import ConfigurationError
from bort.registry import REQUIRED, Registry
from bort.settings import NAME

if TYPE_CHECKING:
    from bort.search.storage.base import Coordination


@dataclass
class StorageConfig:
    """The storage of the study, which any number of workers share and which outlives them."""

    name: str = REQUIRED
    """The storage's name in the registry."""

    study: str = "search"
    """The study's name within the storage."""

    def open(self, directory: Path) -> Coordination:
        """Open the storage and its locks.

        Args:
            directory: The search's directory.

        Raises:
            ConfigurationError: The storage is unknown, incomplete or cannot be reached.
        """
        raise STORAGES.unknown(self.name)

    def open_to_read(self, directory: Path) -> Coordination:
        """Open the storage of an existing study to read it; by default as :meth:`open` does."""
        return self.open(directory)

    def check_usable(self) -> None:
        """Refuse a storage that cannot be used, without leaving anything in it; called before anything costly.

        Raises:
            ConfigurationError: A database cannot be reached, or a file can neither be read nor written.
        """


STORAGES: Registry[StorageConfig] = Registry("storage")


@dataclass
class FileStorageConfig(StorageConfig):
    """A storage in one file. Workers on several machines need a shared file system with locks."""

    study: Annotated[str, NAME] = "search"
    """The study's name within the file, which also names the folder of its locks."""

    path: str | None = None
    """The file; by default ``study.journal`` or ``study.db`` in the search's directory."""

    #: Name of the file in the search's directory.
    default_name: ClassVar[str] = "study"

    def file(self, directory: Path) -> Path:
        """Return the study's file."""
        return Path(self.path) if self.path else Path(directory) / self.default_name

    def check_usable(self) -> None:
        """Refuse a path that cannot be written."""
        if not self.path:
            return
        path = Path(self.path)
        existing = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not os.access(existing, os.W_OK) or existing.is_dir() == (existing == path):
            raise ConfigurationError("storage.path", path, f"a file that can be written, and {existing} is in the way")


@STORAGES.register
@dataclass
class JournalStorageConfig(FileStorageConfig):
    """An Optuna journal file: no server is needed."""

    name: str = "journal"

    default_name: ClassVar[str] = "study.journal"

    def open(self, directory: Path) -> Coordination:
        """Open the journal."""
        from bort.search.storage.files import JournalCoordination

        return JournalCoordination(self.file(directory), self.study)

    def open_to_read(self, directory: Path) -> Coordination:
        """Open the journal as it is: an incomplete last line is skipped, and not removed."""
        from bort.search.storage.files import JournalReader

        return JournalReader(self.file(directory), self.study)


@STORAGES.register
@dataclass
class SqliteStorageConfig(FileStorageConfig):
    """A SQLite file, for tools that read nothing else; a journal is faster."""

    name: str = "sqlite"

    default_name: ClassVar[str] = "study.db"

    def open(self, directory: Path) -> Coordination:
        """Open the database."""
        from bort.search.storage.files import SqliteCoordination

        return SqliteCoordination(self.file(directory), self.study)


@STORAGES.register
@dataclass
class PostgresStorageConfig(StorageConfig):
    """A PostgreSQL database."""

    name: str = "postgres"

    url: str = REQUIRED
    """``postgresql://user:password@host:port/database``."""

    def open(self, directory: Path) -> Coordination:
        """Open the database."""
        from bort.search.storage.postgres import PostgresCoordination

        return PostgresCoordination(self.url, self.study)

    def check_usable(self) -> None:
        """Refuse a database that cannot be reached."""
        from bort.search.storage.postgres import check_database

        check_database(self.url)


@dataclass
class MemoryStorageConfig(StorageConfig):
    """A study that lives as long as its process; for replays and tests, so it is no choice of a command."""

    name: str = "memory"

    def open(self, directory: Path) -> Coordination:
        """Open an empty study in memory."""
        from bort.search.storage.base import MemoryCoordination

        return MemoryCoordination()
