"""The local spool: one line of JSON an event, kept until and after it was delivered."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from bort.files import parse_json, refuse_link, without_links

#: A line is handed to the operating system at once (a killed process loses nothing) and forced to disk in batches.
FLUSH_EVENTS = 128
FLUSH_SECONDS = 2.0


class Spool:
    """An append-only file of events that survives a kill at any point.

    Args:
        path: The file, made with its directory on the first event.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        self._unforced = 0
        self._forced = time.monotonic()

    def append(self, event: Mapping[str, Any]) -> None:
        """Adds one event."""
        _write(self._file or self._open(), _line(event))
        self._unforced += 1
        if self._unforced >= FLUSH_EVENTS or time.monotonic() - self._forced > FLUSH_SECONDS:
            self.force()

    def force(self) -> None:
        """Forces everything written so far to disk."""
        if self._file is not None and self._unforced:
            os.fsync(self._file.fileno())
        self._unforced, self._forced = 0, time.monotonic()

    def close(self) -> None:
        """Forces and closes the file; the next event opens it again."""
        self.force()
        if self._file is not None:
            self._file.close()
            self._file = None

    def size(self) -> int:
        """Returns the bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self, offset: int = 0) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yields each whole line from byte ``offset`` on, as (offset behind it, event); None where a line is damaged."""
        if not self.path.exists():
            return
        with open(self.path, "rb", opener=without_links) as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield offset, _event(line)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self) -> IO[bytes]:
        refuse_link(self.path.parent)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.size() == 0
        # Unbuffered: what is written is with the operating system, whatever happens to this process.
        file = self._file = open(self.path, "ab", buffering=0, opener=without_links)  # noqa: SIM115
        if new:
            _write(file, _line({"event": "spool", "id": uuid.uuid4().hex, "time": time.time()}))
        elif not _ends_with_newline(self.path):
            # A line torn by a crash stays on a line of its own, where the reader sees that it is damaged.
            file.write(b"\n")
        return file


def _write(file: IO[bytes], line: bytes) -> None:
    """Writes all of a line or nothing: a disk that becomes full takes a part of it."""
    end = os.fstat(file.fileno()).st_size
    try:
        written = 0
        while written < len(line):
            written += file.write(line[written:])
    except OSError:
        with suppress(OSError):
            os.ftruncate(file.fileno(), end)
        raise


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = parse_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
