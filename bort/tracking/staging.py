"""Copies of the files that a spool names: regular files below one folder, opened without following links."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

#: A pipe in the place of a file must not block.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


class OutsideError(Exception):
    """A file that a spool names and that is none of the run's results."""


@dataclass(frozen=True)
class Results:
    """The files that may be sent to a store.

    Args:
        home: The run's folder.
        recorded: Paths elsewhere that this process itself recorded.
    """

    home: Path
    recorded: set[Path] = field(default_factory=set)

    def home_of(self, path: Path) -> Path:
        """Return the folder that a file must lie in."""
        return path.parent if path in self.recorded else self.home


@contextmanager
def staged(path: Path, results: Results) -> Iterator[tuple[Path, list[str]]]:
    """Copy a file or a directory to a temporary folder, so that nothing that changes meanwhile is sent in its place.

    Args:
        path: The file or directory.
        results: The files that may be sent.

    Yields:
        The copy, and the names in it that were left out: links and whatever else is no regular file.

    Raises:
        OutsideError: It is none of the results, or is neither a regular file nor a directory.
        FileNotFoundError: There is no such file.
    """
    base, real = Path(os.path.realpath(results.home_of(path))), Path(os.path.realpath(path))
    if not real.is_relative_to(base) or real == base:
        raise OutsideError
    *folders, name = real.relative_to(base).parts
    with tempfile.TemporaryDirectory(prefix="bort-artifact-") as temporary, ExitStack() as stack:
        at = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, at)
        for folder in folders:
            at = _open(folder, _FOLDER, at)
            stack.callback(os.close, at)
        copy, skipped = Path(temporary) / name, list[str]()
        kind = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        if stat.S_ISDIR(kind):
            _copy_folder(name, at, copy, skipped, Path())
        elif not _copy_file(name, at, copy):
            raise OutsideError
        yield copy, skipped


def _open(name: str, flags: int, at: int) -> int:
    try:
        return os.open(name, flags, dir_fd=at)
    except FileNotFoundError:
        raise
    except OSError as error:
        # A link was put in its place since its path was resolved, or no permission.
        raise OutsideError from error


def _copy_folder(name: str, at: int, copy: Path, skipped: list[str], below: Path) -> None:
    descriptor = _open(name, _FOLDER, at)
    try:
        copy.mkdir()
        for entry in sorted(os.listdir(descriptor)):
            kind = os.stat(entry, dir_fd=descriptor, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                _copy_folder(entry, descriptor, copy / entry, skipped, below / entry)
            elif not (stat.S_ISREG(kind) and _copy_file(entry, descriptor, copy / entry)):
                skipped.append((below / entry).as_posix())
    finally:
        os.close(descriptor)


def _copy_file(name: str, at: int, copy: Path) -> bool:
    """Copy a regular file and return whether it is one."""
    descriptor = _open(name, _READ, at)
    with os.fdopen(descriptor, "rb") as source:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        with copy.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return True
