"""The section on what a result was made from: what was asked, inputs, machine, versions, seeds, and how to do it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bort.redaction import redact
from bort.report.formatting import DASH, big
from bort.report.html import Cell, code, paragraph, section, table
from bort.report.reading import Findings, Record, is_number

#: Settings shown on the page, by the group they stand in; the rest is in the stage's manifest.
_SHOWN = (
    "seed",
    "search_space",
    "strategy",
    "error",
    "latency",
    "search",
    "loss",
    "train",
    "budget",
    "student",
    "task",
    "finetuning",
)


def provenance(findings: Findings) -> str:
    """What was asked, from what, with which versions, and how to do it again."""
    result = findings.result
    settings = [[Cell(key), Cell(value)] for key, value in _settings(result)]
    machines = [made.get("machine") or {} for made in findings.stages.values()]
    environments = [*machines, findings.benchmark.get("environment") or {}, result]
    versions = {name: version for found in environments for name, version in (found.get("versions") or {}).items()}
    store = result.get("mlflow") or {}
    recorded = (
        "Every run, candidate and checkpoint is recorded in MLflow: "
        f"experiment {store.get('experiment')} in {redact(str(store.get('store')))}."
        if store.get("store")
        else ""
    )
    commands = [str(command) for command in result.get("commands") or []]
    return section(
        "provenance",
        "What it was made from",
        [
            table("Inputs", ["input", "what", "digest"], _inputs(findings), sort=False, kind="words"),
            table("Stages", ["stage", "ended", "on", "with"], _stages(findings), sort=False, kind="words"),
            table("Settings", ["setting", "value"], settings, sort=False, fold=12, kind="words"),
            paragraph(_seeds(findings)),
            paragraph(
                "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "." if versions else ""
            ),
            paragraph(recorded),
            paragraph("To do it again:") if commands else "",
            code([redact(command) for command in commands]),
        ],
    )


def _stages(findings: Findings) -> list[list[Cell]]:
    rows = []
    for name, made in findings.stages.items():
        machine = made.get("machine") or {}
        on = ", ".join(
            part
            for part in (
                str(machine.get("processor") or ""),
                f"{machine['processors']} processors" if machine.get("processors") else "",
                str(machine.get("accelerator") or ""),
            )
            if part
        )
        ended = made.get("finished")
        date = datetime.fromtimestamp(ended, UTC).strftime("%Y-%m-%d %H:%M UTC") if is_number(ended) else DASH
        rows.append([Cell(name), Cell(date), Cell(on or DASH), Cell(f"bort {made['bort']}" if made.get("bort") else DASH)])
    return rows


def _seeds(findings: Findings) -> str:
    """Returns which seeds the figures rest on."""
    settings = findings.result.get("settings") or findings.result.get("config") or {}
    seed = settings.get("seed") if isinstance(settings, Mapping) else None
    tuned = next((record.get("seeds") for record in findings.tuned.values() if record.get("seeds")), None) or []
    seeds = [str(run["seed"]) for run in tuned if isinstance(run, Mapping) and "seed" in run]
    parts = [f"{seed} for search and training" if is_number(seed) else "", f"{', '.join(seeds)} for fine-tuning" if seeds else ""]
    return "Seeds: " + "; ".join(part for part in parts if part) + "." if any(parts) else ""


def _inputs(findings: Findings) -> list[list[Cell]]:
    result, rows = findings.result, []
    teacher, corpus, data = result.get("teacher"), result.get("corpus"), findings.task
    if isinstance(teacher, Mapping):
        words = f"{teacher.get('name', '')} {teacher.get('architecture', '')}, {big(teacher.get('parameters'))} parameters"
        rows.append([Cell("teacher"), Cell(words), Cell(_short(teacher.get("digest")))])
    if isinstance(corpus, Mapping):
        tokens = corpus.get("tokens")
        counts = sum(value for value in tokens.values() if is_number(value)) if isinstance(tokens, Mapping) else tokens
        rows.append([Cell("corpus"), Cell(f"{corpus.get('name', '')}, {big(counts)} tokens"), Cell(_short(corpus.get("digest")))])
    if data:
        rows.append([Cell("task"), Cell(str(data.get("name", ""))), Cell(_short(data.get("digest")))])
    return rows


def _settings(result: Record) -> list[tuple[str, str]]:
    settings = result.get("settings") or result.get("config")
    if not isinstance(settings, Mapping):
        return []
    flat: list[tuple[str, str]] = []

    def walk(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                walk(f"{key}.{name}" if key else str(name), item)
        elif value is not None:
            flat.append((key, redact(str(value))))

    for name in _SHOWN:
        if name in settings:
            walk(name, settings[name])
    return flat


def _short(value: object) -> str:
    return str(value)[:12] if value else DASH
