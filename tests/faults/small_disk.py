"""A disk that is small, and can be made larger: a file system in memory, for which the right to mount one is needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_PAGE = 4096


class SmallDisk:
    """A file system of a size that can be changed; other users may look into it, and write where they are let."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="bort-disk-"))
        self.path.chmod(0o755)
        try:
            self._mount("size=1m", "-t", "tmpfs", "tmpfs")
        except Exception:
            self.path.rmdir()
            raise

    def _mount(self, options: str, *others: str) -> None:
        subprocess.run(["mount", "-o", options, *others, str(self.path)], check=True, capture_output=True, timeout=60)

    def hold(self, size: int) -> None:
        """Lets it hold so many bytes, in whole pages; not less than it holds."""
        self._mount(f"remount,size={max(1, size // _PAGE) * _PAGE}")

    def used(self) -> int:
        """Returns the bytes that are taken."""
        room = os.statvfs(self.path)
        return (room.f_blocks - room.f_bfree) * room.f_frsize

    def close(self) -> None:
        """Takes it away, with all that is in it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True, capture_output=True, timeout=60)
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def mounted() -> Iterator[SmallDisk]:
    """A small disk for as long as the block lasts; the test is skipped where none can be made."""
    try:
        disk = SmallDisk()
    except (OSError, subprocess.SubprocessError):
        pytest.skip("needs the right to mount a file system in memory")
    try:
        yield disk
    finally:
        disk.close()
