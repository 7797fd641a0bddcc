"""The file of a measurement that is done in blocks: each is written when it is whole, and is not measured again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bort.files import read_json, write_json
from bort.observer import Observer
from bort.record import refuse_difference, refuse_newer

SCHEMA = 1
#: Circumstances that must not change within one measurement.
FIXED = ("processor", "processors", "accelerator", "versions")


class BlockFile:
    """What has been measured so far.

    Args:
        path: The file; None to keep nothing.
        identity: What is asked; a file that was begun for something else is refused.
        environment: The circumstances; a file that was begun in others is begun anew.
        observer: Warned then.

    Raises:
        RecordError: The file holds the latencies of something else, or was written by a newer version.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any], environment: Mapping[str, Any], observer: Observer) -> None:
        self.path = path
        self.blocks: dict[str, dict[str, Any]] = {}
        self.environment = dict(environment)
        self._identity = dict(identity)
        if path is None or not path.exists():
            return
        known = read_json(path)
        refuse_newer(path, known, SCHEMA)
        refuse_difference(path, "latencies", known.get("identity", {}), self._identity)
        changed = [name for name in FIXED if known["environment"].get(name) != self.environment.get(name)]
        if changed:
            observer.warn(f"{path} was begun with another {' and '.join(changed)}: latencies are measured anew.")
            return
        self.blocks, self.environment = known["blocks"], known["environment"]

    def add(self, name: str, block: dict[str, Any]) -> None:
        """Adds a block, and writes the file."""
        self.blocks[name] = block
        if self.path is not None:
            record = {"schema": SCHEMA, "identity": self._identity, "environment": self.environment, "blocks": self.blocks}
            write_json(self.path, record)
