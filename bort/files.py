"""Files that are either whole or absent, and digests of what they hold."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bort.errors import BortError, RecordError

_CHUNK = 1 << 20
#: Linux's renameat2: paths count from the working directory; the two names are exchanged.
_HERE, _EXCHANGE = -100, 2
#: Half of a character, as JSON can spell it; no file or database takes such a text.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
#: numpy's message when the system wrote less than requested.
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary sibling of ``target`` that replaces it when the block ends well.

    Works for files and for directories. If the block raises, the temporary is removed and ``target`` is left as it was.

    Raises:
        OSError: The disk is full, with ``ENOSPC`` and the target's name, whatever the library that wrote made of it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    temporary = holder / target.name
    try:
        yield temporary
        if temporary.is_file():
            _flush(temporary)
        if not (temporary.is_dir() and target.is_dir() and _exchange(temporary, target)):
            if temporary.is_dir() and target.is_dir():
                # The old one steps aside first, and goes with the holder.
                os.replace(target, holder / "replaced")
            os.replace(temporary, target)
        _flush(target.parent)
    except Exception as error:
        if _no_room(error, holder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def disk_full(error: BaseException) -> bool:
    """Return whether an error of the system, safetensors, numpy, torch or ONNX Runtime reports a full disk or quota."""
    text = str(error)
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or bool(_CUT_SHORT.search(text))


def disk_full_message(path: Path | str | None) -> str:
    """Return the sentence on a full disk.

    Args:
        path: The file or directory that could not be written, if known.
    """
    return f"{f'{path}: the' if path else 'The'} disk is full. Make room, then re-run the same command to resume."


@contextmanager
def translate_disk_full(path: Path | str) -> Iterator[None]:
    """Turn the many errors of a full disk into one.

    Args:
        path: The file or directory written in this block.

    Raises:
        BortError: The disk is full.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, BortError) or not disk_full(error):
            raise
        raise BortError(disk_full_message(path)) from error


def write_text(target: Path | str, text: str) -> None:
    """Writes ``text`` to ``target`` atomically, as UTF-8."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, value: Any) -> None:
    """Writes ``value`` as indented JSON, atomically. NaN and infinities become ``null``, which every reader accepts."""
    write_text(target, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parse_json(text: str | bytes, *, halves: bool = False) -> Any:
    """Returns what JSON from outside says.

    Args:
        text: The JSON.
        halves: Whether texts may hold halves of characters (lone surrogates), for a caller that looks for them.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or holds a number or a text that nothing here could work with.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not halves and _SURROGATE.search(text if isinstance(text, str) else text.decode("utf-8", errors="replace")):
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def read_json(path: Path | str) -> Any:
    """Reads a JSON file.

    Raises:
        RecordError: The file is missing, unreadable or not JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}.") from error
    try:
        return parse_json(text)
    except ValueError as error:
        raise RecordError(f"{path} is not valid JSON ({error}); remove it and run the stage again.") from error


def read_array(path: Path | str, *, mapped: bool = False) -> Any:
    """Reads an array of numpy's format; nothing in it is executed.

    Args:
        path: The file.
        mapped: Whether it is memory-mapped.

    Raises:
        ValueError: It cannot be read, or is no such file.
    """
    from tokenize import TokenError

    import numpy as np

    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, EOFError, ArithmeticError, MemoryError, TypeError, SyntaxError, TokenError, ValueError) as error:
        # A header that is damaged says so in many ways: it is written as a Python literal.
        raise ValueError(str(error) or type(error).__name__) from error
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive")
    return array


@contextmanager
def well_formed(path: Path | str, what: str) -> Iterator[None]:
    """Turns what a record of another form raises, where it is taken apart in this block, into a sentence.

    Args:
        path: Where the record was read.
        what: What it should have been, such as ``a corpus's record``.

    Raises:
        RecordError: The record lacks a value, or has one of another type.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise RecordError(f"{path} is not {what} ({reason}); remove it and run the stage again.") from error


def whole_number(value: Any, least: int = 0) -> int:
    """Returns a number out of a record.

    Raises:
        ValueError: It is no whole number, or below ``least``.
    """
    if type(value) is not int or value < least:
        raise ValueError(f"{value!r} stands where a whole number of at least {least} should")
    return value


def finite(value: Any) -> Any:
    """Returns ``value`` with every NaN and infinity in it, at any depth, replaced by ``None``."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def digest(value: Any) -> str:
    """Returns the SHA-256 (hexadecimal) of a JSON-like value; the order of keys does not matter."""
    canonical = json.dumps(finite(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def file_digest(path: Path | str) -> str:
    """Returns the SHA-256 (hexadecimal) of a file's bytes."""
    state = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def _exchange(one: Path, other: Path) -> bool:
    """Lets two directories change places in one step, so that a kill finds one of them there; tells whether the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    return bool(rename(_HERE, os.fsencode(one.absolute()), _HERE, os.fsencode(other.absolute()), _EXCHANGE) == 0)


def without_links(path: str, flags: int) -> int:
    """Open a file for ``open(…, opener=without_links)`` unless it is a symbolic link, which a folder from elsewhere may hold.

    Raises:
        RecordError: The path is a symbolic link; its target was neither created nor changed.
        OSError: The file cannot be opened.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path) from error
        raise


def refuse_link(path: Path) -> None:
    """Refuse a file or folder that is a symbolic link, before a library that follows links opens it.

    Raises:
        RecordError: It is one.
    """
    if path.is_symlink():
        raise _link(path)


def _link(path: Path | str) -> RecordError:
    return RecordError(f"{path}: it is a symbolic link, which could lead to somebody else's file. Remove the link.")


def drop_torn_line(path: Path) -> None:
    """Cuts off a last line without an end, which a process killed while writing leaves behind: what is added would end up in it."""
    if not path.exists() or not (size := path.stat().st_size):
        return
    with open(path, "rb+", opener=without_links) as file:
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


def _no_room(error: Exception, folder: Path) -> bool:
    # Some libraries only report that they could not write. With no space at all, a retry would fail as well.
    return disk_full(error) or (not isinstance(error, BortError) and os.statvfs(folder).f_bavail == 0)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
