"""Files that are either whole or absent, and digests of what they hold."""

from __future__ import annotations

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

from bort.errors import RecordError

_CHUNK = 1 << 20
#: Half of a character, as JSON can spell it; no file or database takes such a text.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary sibling of ``target`` that replaces it when the block ends well.

    Works for files and for directories. If the block raises, the temporary is removed and ``target`` is left as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    temporary = holder / target.name
    try:
        yield temporary
        if temporary.is_file():
            _flush(temporary)
        elif target.is_dir():
            # A directory cannot be replaced in one step: the old one steps aside first, and goes with the holder.
            os.replace(target, holder / "replaced")
        os.replace(temporary, target)
        _flush(target.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_text(target: Path | str, text: str) -> None:
    """Writes ``text`` to ``target`` atomically, as UTF-8."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, value: Any) -> None:
    """Writes ``value`` as indented JSON, atomically. NaN and infinities become ``null``, which every reader accepts."""
    write_text(target, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """Returns what JSON from outside says.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or holds a number or a text that nothing here could work with.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if _SURROGATE.search(text if isinstance(text, str) else text.decode("utf-8", errors="replace")):
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


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
