"""Marks of the stores that this user's own runs record to, by which a spool from elsewhere is told apart.

The key of these marks lies in the user's state folder and never in results, so that whoever writes a folder of results cannot make
one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Fields of a recorded store that a mark covers.
_COVERED = ("store", "experiment", "artifacts")
_KEY_BYTES = 32


def mark(store: Mapping[str, Any]) -> str | None:
    """Return the mark of a store, with a new key if the user has none; ``None`` if no key can be kept."""
    key = _key() or _new_key()
    return _mark(key, store) if key else None


def owned(store: Mapping[str, Any]) -> bool:
    """Return whether a recorded store carries the mark of this user."""
    key, marked = _key(), store.get("mark")
    return key is not None and isinstance(marked, str) and hmac.compare_digest(marked.encode(), _mark(key, store).encode())


def _mark(key: bytes, store: Mapping[str, Any]) -> str:
    covered = repr([store.get(name) for name in _COVERED])
    return hmac.new(key, covered.encode("utf-8", errors="surrogatepass"), hashlib.sha256).hexdigest()


def _path() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state or Path.home() / ".local" / "state") / "bort" / "tracking.key"


def _key() -> bytes | None:
    try:
        key = _path().read_bytes()
    except (OSError, RuntimeError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _new_key() -> bytes | None:
    try:
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Readable by its owner only.
        descriptor, name = tempfile.mkstemp(prefix=".tracking.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
            # The first of two processes wins; both use its key.
            with suppress(FileExistsError):
                os.link(name, path)
        finally:
            os.unlink(name)
    except (OSError, RuntimeError):
        return None
    return _key()
