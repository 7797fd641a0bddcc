"""What the makers of sound inputs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(folder: Path, name: str, data: bytes) -> Path:
    """Writes a file below ``folder`` and returns its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def as_json(value: Any) -> bytes:
    """Returns a value as JSON."""
    return json.dumps(value).encode()


def as_lines(records: list[Any]) -> bytes:
    """Returns records as JSON, one a line."""
    return b"".join(as_json(record) + b"\n" for record in records)
