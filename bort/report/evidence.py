"""Results as evidence for a claim: read from what stages leave, or from the small records that outlive them.

A record holds the figures of one result with their circumstances (command, date, machine, versions, seeds), and none of its bulk,
so that a table made of records can be made again by anyone who has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bort
from bort.errors import BortError, RecordError
from bort.files import read_json, write_json
from bort.record import MANIFEST, RESULT, SCHEMA
from bort.report.reading import check_schema

Record = Mapping[str, Any]

#: What a record keeps of each stage's result.
KEPT = {
    "search": (
        "winner", "strategy", "space", "maximum_point", "latency", "error", "trained_steps", "exhaustive_steps",
        "processor_seconds", "tokens", "sensitivity", "correlation", "certificate",
    ),
    "distill": ("architecture", "parameters", "steps", "tokens", "heldout", "processor_seconds", "twin"),
    "finetune": ("task", "baseline", "models"),
    "evaluate": ("task", "metrics", "baseline"),
    "benchmark": ("rows", "ratios", "targets", "serving", "reference", "models", "others_share", "busy", "settings"),
    "benchmark_search": ("rows", "benchmark", "settings"),
    "benchmark_distill": ("rows", "student", "teacher", "device", "settings"),
    "benchmark_objectives": ("rows", "runs"),
    "benchmark_agora": ("settings", "overall", "cost", "seeds", "verdict"),
}  # fmt: skip
#: Parts of these that are bulk: single samples, curves, files, and what can be had from the rest.
_BULK = {
    "samples_ms", "curve", "ledger", "checkpoint", "from", "predictions", "source", "balance", "exponents", "trained_to", "path",
}  # fmt: skip
#: Of a fine-tuning, each model's metrics and costs count, and not where it lies and how each of its seeds went.
_BULK_OF = {"finetune": {"model", "seeds", "trials"}}


@dataclass(frozen=True)
class Evidence:
    """One result, or what a record kept of it.

    Args:
        stage: The stage it is of.
        result: Its figures, in the stage's own layout.
        source: Where it lies: a file, or a part of a page.
        command: What repeats it.
        machine: What it was run on.
    """

    stage: str
    result: Record
    source: str = ""
    command: str = ""
    machine: Record = field(default_factory=dict)


def write_record(path: Path | str, folder: Path | str) -> None:
    """Writes the record of a finished stage.

    Args:
        path: The record's file.
        folder: The stage's folder, with its manifest and its result.

    Raises:
        RecordError: The stage is not finished, or records of its kind are not kept.
    """
    result, manifest = read_json(Path(folder) / RESULT), read_json(Path(folder) / MANIFEST)
    stage = str(manifest.get("stage"))
    if stage not in KEPT:
        raise RecordError(f"Records are kept of {', '.join(KEPT)}; {stage} is none of them.")
    if manifest.get("state") != "done":
        raise RecordError(f"{folder} is not finished, so there is nothing to record yet.")
    machine = dict(result.get("environment") or manifest.get("machine") or {})
    versions = machine.pop("versions", {})
    record = {
        "schema": SCHEMA,
        "stage": stage,
        "command": manifest.get("command", ""),
        "date": datetime.fromtimestamp(manifest["finished"], UTC).date().isoformat(),
        "bort": manifest.get("bort", bort.__version__),
        "machine": machine,
        "versions": versions,
        "seeds": _seeds(result, manifest),
        "figures": {name: _slim(result[name], _BULK | _BULK_OF.get(stage, set())) for name in KEPT[stage] if name in result},
    }
    write_json(path, record)


def read_evidence(paths: Iterable[Path | str]) -> list[Evidence]:
    """Reads records and results.

    Args:
        paths: Files, or folders: of records, or below which stages have left their results.

    Raises:
        BortError: A path does not exist, or nothing is found below it.
        RecordError: A file is neither a record nor a result, or was written by a newer version.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted({*path.glob("*.json"), *path.rglob(RESULT)} - {*path.rglob(MANIFEST)})
            pieces = [piece for file in files if (piece := _piece(file)) is not None]
            if not pieces:
                raise BortError(
                    f"There is neither a record nor a result of a stage below {path}; run a stage, or name another folder."
                )
            found += pieces
        elif path.is_file():
            piece = _piece(path)
            if piece is None:
                raise RecordError(f"{path} is neither a record nor the result of one of {', '.join(KEPT)}.")
            found.append(piece)
        else:
            raise BortError(f"{path} does not exist; name a record, a result.json, or a folder of them.")
    return found


def _piece(file: Path) -> Evidence | None:
    content = read_json(file)
    if not isinstance(content, dict) or content.get("stage") not in KEPT:
        return None
    check_schema(content, str(file))
    machine = content.get("machine") or content.get("environment") or {}
    return Evidence(content["stage"], content.get("figures", content), file.as_posix(), content.get("command", ""), machine)


def _seeds(result: Record, manifest: Record) -> list[int]:
    """Returns the seeds that figures were averaged over; the run's own where there was one."""
    rows = result.get("rows") or [{}]
    seeds = result.get("seeds") or (rows[0].get("seeds") if isinstance(rows[0], Mapping) else None)
    if not seeds:
        seeds = [(manifest.get("settings") or {}).get("seed")]
    found = [seed["seed"] if isinstance(seed, Mapping) else seed for seed in seeds]
    return [seed for seed in found if isinstance(seed, int)]


def _slim(value: Any, bulk: set[str]) -> Any:
    """Returns a value without its bulk."""
    if isinstance(value, Mapping):
        return {key: _slim(item, bulk) for key, item in value.items() if key not in bulk}
    return [_slim(item, bulk) for item in value] if isinstance(value, list) else value
