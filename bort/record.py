"""A stage's output directory: what it was made from, whether it is finished, and what came out."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bort
from bort.errors import RecordError
from bort.files import digest, finite, read_json, well_formed, whole_number, write_json
from bort.locks import exclusive

MANIFEST = "manifest.json"
RESULT = "result.json"
SCHEMA = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
            refuse_newer(manifest, there, SCHEMA)
            self._manifest = {**there, "state": there["state"], "seconds": float(there["seconds"])}
            named = "" if there.get("digest") == self.digest else differences(_named(there), _named(self._made_from))
        if self._manifest.get("digest") != self.digest:
            remedy = "Choose another name with name=…, another folder with hydra.run.dir=…, or remove it."
            raise RecordError(_refusal(self.path, f"the {self.stage} stage", named, remedy))

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


def _named(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings and inputs of a manifest under the names a user knows."""
    inputs = {f"input {name}": value for name, value in dict(made_from.get("inputs", {})).items()}
    return {"stage": made_from.get("stage"), **dict(made_from.get("settings", {})), **inputs}


def bind(directory: Path | str, kind: str, identity: Mapping[str, Any]) -> str:
    """Bind a directory to the settings its content depends on, and return their digest.

    The first call writes ``<kind>.json``; later ones compare. Keys that an older version did not write count as ``None``.

    Args:
        directory: Created if missing.
        kind: What the directory holds.
        identity: Everything that changes the content, as JSON values.

    Raises:
        RecordError: The directory is bound to other settings.
    """
    directory = Path(directory)
    path = directory / f"{kind}.json"
    with exclusive(directory, name=".claim"):
        if not path.exists():
            write_json(path, identity)
    stored = read_json(path)
    with well_formed(path, f"the record of a {kind}"):
        stored = {key: stored.get(key) for key in identity}
    refuse_difference(directory, f"the {kind}", stored, identity)
    return digest(identity)


def refuse_difference(path: Path | str, kind: str, stored: Any, wanted: Mapping[str, Any] | str) -> None:
    """Refuse content made from other settings.

    Args:
        path: The file or directory.
        kind: What it holds, with its article.
        stored: What its content was made from: settings by name, at any depth, or their digest.
        wanted: The same of the caller. A name that is missing on one side counts as ``None``.

    Raises:
        RecordError: The two differ; the message names up to three settings.
    """
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        named = differences(stored, wanted)
        same = not named
    else:
        named, same = "", stored == wanted
    if not same:
        raise RecordError(_refusal(path, kind, named, "Choose another directory or remove it."))


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], most: int = 3) -> str:
    """Return the settings that differ, as ``key: <value> there, <value> here`` joined by semicolons; empty if none does."""
    there, here = _flat(stored), _flat(wanted)
    keys = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    named = [f"{key}: {_short(there.get(key, 'unset'))} there, {_short(here.get(key, 'unset'))} here" for key in keys[:most]]
    return "; ".join(named) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def refuse_newer(path: Path | str, record: Mapping[str, Any], newest: int) -> int:
    """Return the schema of a record, 0 if it has none.

    Raises:
        RecordError: A newer version of Bort wrote it.
        ValueError: It is not an integer.
    """
    schema = whole_number(record.get("schema", 0))
    if schema > newest:
        raise RecordError(f"{path} was written by a newer version of Bort (schema {schema}).")
    return schema


def _refusal(path: Path | str, kind: str, named: str, remedy: str) -> str:
    return f"{path}: holds {kind} of other settings{f' ({named})' if named else ''}. {remedy}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by dotted name, as they read in JSON."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = finite(value)
    return flat


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and _DIGEST.fullmatch(value) else str(value)
