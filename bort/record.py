"""A stage's output directory: what it was made from, whether it is finished, and what came out."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bort
from bort.errors import RecordError
from bort.files import digest, read_json, well_formed, whole_number, write_json

MANIFEST = "manifest.json"
RESULT = "result.json"
SCHEMA = 1


class StageDirectory:
    """One stage's directory with its manifest and its result.

    A stage is done when its manifest says so; it is skipped when the settings and input digests it was made from are the
    ones asked for, resumed when they match and it is not done, and refused when they differ.

    Args:
        path: The directory; made by :meth:`begin` when missing.
        stage: The stage's name, e.g. ``search``.
        settings: Everything that changes the result (never what changes only its speed), as plain values.
        inputs: The digest of each input directory or file, by name.

    Raises:
        RecordError: The directory holds a result of other settings or inputs; the message names the differences.
    """

    def __init__(self, path: Path | str, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        self.path = Path(path)
        self.stage = stage
        self._made_from = {"stage": stage, "settings": dict(settings), "inputs": dict(inputs)}
        self.digest = digest(self._made_from)
        self._manifest: dict[str, Any] = {"state": "new", "seconds": 0.0}
        self._read()

    def _read(self) -> None:
        manifest = self.path / MANIFEST
        if not manifest.exists():
            return
        there = read_json(manifest)
        with well_formed(manifest, "a stage's manifest"):
            if whole_number(there.get("schema", 0)) > SCHEMA:
                raise RecordError(f"{manifest} was written by a newer version of Bort (schema {there['schema']}).")
            self._manifest = {**there, "state": there["state"], "seconds": float(there["seconds"])}
            difference = "" if there.get("digest") == self.digest else _difference(there, self._made_from)
        if self._manifest.get("digest") != self.digest:
            raise RecordError(
                f"{self.path} holds the {self.stage} stage of another configuration ({difference}); "
                "choose another name with name=…, another folder with hydra.run.dir=…, or remove it."
            )

    @property
    def manifest(self) -> dict[str, Any]:
        """What the stage was made from and how it was run, as its manifest has it."""
        return dict(self._manifest)

    def begin(self, **circumstances: Any) -> None:
        """Writes the manifest where there is none, and reads what another process may have written since.

        Args:
            **circumstances: What else the manifest says of the run, such as the command; plain values.
        """
        self._read()
        if self._manifest["state"] == "new":
            self._manifest = {
                "schema": SCHEMA,
                **self._made_from,
                "digest": self.digest,
                "state": "running",
                "bort": bort.__version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                **circumstances,
                "started": time.time(),
                "seconds": 0.0,
            }
            write_json(self.path / MANIFEST, self._manifest)

    @property
    def key(self) -> str:
        """An identity that no other start of any stage has: the folder's, and of the time at which it was begun."""
        return f"{self.stage}-{digest([str(self.path.absolute()), self._manifest.get('started')])[:12]}"

    @property
    def done(self) -> bool:
        """Whether the stage has finished and its result can be read."""
        return self._manifest["state"] == "done" and (self.path / RESULT).exists()

    @property
    def seconds(self) -> float:
        """Wall seconds that the stage has taken, over all its starts."""
        return float(self._manifest["seconds"])

    def result(self) -> dict[str, Any]:
        """Returns the stage's ``result.json``."""
        result = read_json(self.path / RESULT)
        with well_formed(self.path / RESULT, "a stage's result"):
            return dict(result)

    def add_seconds(self, seconds: float) -> None:
        """Adds the wall seconds of a start that was interrupted or has ended."""
        self._manifest["seconds"] = self.seconds + seconds
        write_json(self.path / MANIFEST, self._manifest)

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Writes ``result.json`` and marks the stage as done.

        The result is written before the mark, so that a stage killed between the two is run again rather than half read.
        """
        # What a result takes over from a store of its own does not say how this file is to be read.
        whole = {**result, "schema": SCHEMA, "stage": self.stage, "digest": self.digest}
        write_json(self.path / RESULT, whole)
        self._manifest["state"] = "done"
        self._manifest["finished"] = time.time()
        write_json(self.path / MANIFEST, self._manifest)
        return whole


def holds(path: Path | str, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
    """Returns whether a directory holds this stage, finished, of just these settings and inputs."""
    try:
        return StageDirectory(path, stage, settings, inputs).done
    except RecordError:
        return False


def _difference(manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Names up to three settings that differ, as ``key: there → here``."""
    there, here = _flat(manifest), _flat(wanted)
    keys = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    named = [f"{key}: {there.get(key, 'unset')} → {here.get(key, 'unset')}" for key in keys[:3]]
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(named) + more


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"stage": record.get("stage")}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{prefix}{key}.", item)
        else:
            flat[prefix.rstrip(".")] = list(value) if isinstance(value, tuple) else value

    walk("", record.get("settings", {}))
    walk("input ", record.get("inputs", {}))
    return flat
