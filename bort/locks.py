"""File locks that the operating system releases when the process dies."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bort.files import without_links

_POLL_SECONDS = 0.1


class FileLock:
    """An exclusive lock on a file, which is created if missing and never truncated.

    ``filelock`` is no substitute: it polls, and without ``flock`` it falls back to a file that outlives a killed process.

    Args:
        path: The lock file. Its directory must exist.

    Raises:
        RecordError: The path is a symbolic link, which could point to a file of somebody else.
        OSError: The file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", opener=without_links)  # noqa: SIM115

    def acquire(self, *, wait: bool | float = True) -> bool:
        """Take the lock and report whether it is held.

        Args:
            wait: Whether to wait for another holder; a number is the longest wait in seconds.
        """
        deadline = time.monotonic() + float(wait)
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait is True else fcntl.LOCK_NB))
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                return True

    def release(self) -> None:
        """Release the lock and keep the file open, to be acquired again."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the lock and close the file."""
        self._file.close()


@contextmanager
def exclusive(directory: Path | str, *, wait: bool | float = True, name: str = ".lock") -> Iterator[bool]:
    """Hold a directory's lock inside the block.

    Args:
        directory: Created if missing.
        wait: As of :meth:`FileLock.acquire`.
        name: File name of the lock, if the directory has several.

    Yields:
        Whether the lock is held.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / name)
    try:
        yield lock.acquire(wait=wait)
    finally:
        lock.close()
