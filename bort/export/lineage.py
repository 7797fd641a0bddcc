"""Where a model came from, read from the records that the stages left: study, candidate, student, fine-tuned model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bort.distillation.terms import LossConfig
from bort.errors import RecordError
from bort.files import read_json
from bort.record import MANIFEST, StageDirectory

#: How far above a model's folder its stage's may lie, and above that the root of the stages it was made from.
_ABOVE = 3
_SHAPE = ("architecture", "parameters")


@dataclass(frozen=True)
class Made:
    """One finished stage that a model came from.

    Args:
        path: Its folder.
        key: The key of its tracked run.
        manifest: What it was made from and how it was run.
        result: What came out.
    """

    path: Path
    key: str
    manifest: Mapping[str, Any]
    result: Mapping[str, Any]


def lineage(model_dir: Path | str) -> dict[str, Made]:
    """Returns the stages that a model came from by name, the one that wrote it first; none where no stage did.

    A stage counts only where its record has the digest that the next one was made from.
    """
    folder = Path(model_dir).absolute()
    found: dict[str, Made] = {}
    for above in [folder, *folder.parents][: _ABOVE + 1]:
        made = _finished(above)
        if made is not None:
            _collect(made, found)
            break
    return found


def _collect(made: Made, found: dict[str, Made]) -> None:
    found[made.manifest["stage"]] = made
    for name, wanted in made.manifest["inputs"].items():
        if name in found:
            continue
        # A run whose overrides do not touch a stage takes it from the folder of the run without them, further up.
        for root in made.path.parents[:_ABOVE]:
            source = _finished(root / name)
            if source is not None and source.manifest["digest"] == wanted:
                _collect(source, found)
                break


def _finished(folder: Path) -> Made | None:
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = read_json(folder / MANIFEST)
        record = StageDirectory(folder, manifest["stage"], manifest["settings"], manifest["inputs"])
        return Made(folder, record.key, manifest, record.result()) if record.done else None
    except (RecordError, KeyError, TypeError):
        # Whatever it is, it is no record that tells of this model.
        return None


def role_of(model_dir: Path | str, made: Mapping[str, Made]) -> str:
    """Returns which of its stage's models a directory holds: ``student``, ``twin`` or ``teacher``."""
    if "finetune" in made:
        roles = made["finetune"].result["models"]
        inside = Path(model_dir).absolute().relative_to(made["finetune"].path).parts
        return inside[0] if inside and inside[0] in roles else str(next(iter(roles)))
    inside = Path(model_dir).absolute().parts
    return "twin" if "distill" in made and "twin" in inside[-2:] else "student"


def run_keys(model_dir: Path | str, made: Mapping[str, Made]) -> dict[str, str]:
    """Returns the keys of the tracked runs that lead to a model: ``study``, ``candidate``, ``student`` and ``finetuned``."""
    role, keys = role_of(model_dir, made), {}
    if "search" in made and role != "teacher":
        keys["study"] = made["search"].key
        winner = made["search"].result["winner"]
        if winner["name"] == _architecture(made):
            rows: list[dict[str, Any]] = made["search"].result["candidates"]
            ended: dict[str, Any] = next((row for row in rows if row["name"] == winner["name"]), {})
            same_shape = f"/{ended.get('fingerprint', '')}" if winner.get("theta") else ""
            keys["candidate"] = f"{keys['study']}/{winner['name']}{same_shape}"
    if "distill" in made and role != "teacher":
        keys["student"] = made["distill"].key + ("/twin" if role == "twin" else "")
    if "finetune" in made:
        keys["finetuned"] = f"{made['finetune'].key}/{role}"
    return keys


def card_facts(model_dir: Path | str, made: Mapping[str, Made], licences: Mapping[str, str | None] | None = None) -> dict[str, Any]:
    """Returns what the records tell for a model's card; see :func:`bort.export.card.model_card`.

    Args:
        model_dir: The model.
        made: The stages that it came from.
        licences: Licences of ``teacher`` and ``corpus``, which no record holds.
    """
    if not made:
        return {}
    role = role_of(model_dir, made)
    newest = next(iter(made.values()))
    facts: dict[str, Any] = {
        "name": " ".join([newest.path.parent.name, role]),
        "cost": {stage: _cost(one) for stage, one in sorted(made.items(), key=lambda item: item[1].manifest["started"])},
        "commands": list(dict.fromkeys(one.manifest["command"] for one in made.values() if one.manifest.get("command"))),
        "versions": {"bort": newest.manifest["bort"], "python": newest.manifest["python"]},
    }
    if role != "teacher":
        facts |= _distilled(made, role)
    for source, licence in (licences or {}).items():
        if source in facts and licence:
            facts[source]["licence"] = licence
    if "finetune" in made:
        facts["name"] += f" on {made['finetune'].result['task']['name']}"
        facts["task"] = _task(made["finetune"].result, role)
    return facts


def _distilled(made: Mapping[str, Made], role: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    teacher, corpus = (made[name].result if name in made else {} for name in ("teacher", "corpus"))
    if teacher and role == "student":
        facts["teacher"] = {**{key: teacher.get(key) for key in ("name", *_SHAPE)}, "digest": teacher["identity"]["teacher"]}
    if corpus:
        # A corpus is known by what the teacher read of it.
        read = teacher["identity"].get("corpus") if teacher else None
        facts["corpus"] = {"name": corpus["name"], "tokens": corpus["tokens"]["train"], "digest": read}
    if "search" in made:
        result = made["search"].result
        facts["search"] = {
            "strategy": result["strategy"]["name"],
            "space": result["space"]["valid"],
            "candidates": sum(row.get("w") is not None for row in result["candidates"]),
            "winner": result["winner"]["name"],
            "w": result["winner"]["w"],
        }
    if "distill" in made:
        result = made["distill"].result
        trained = result["twin"] if role == "twin" else result
        loss = made["distill"].manifest["settings"].get("loss", {})
        terms = [term.title for name, term in LossConfig.known().items() if loss.get(name)]
        facts["distillation"] = {
            "objective": "masked LM, without the teacher" if role == "twin" else " + ".join(terms),
            **{key: trained[key] for key in ("steps", "tokens", "heldout")},
        }
    return facts


def _task(result: Mapping[str, Any], role: str) -> dict[str, Any]:
    models = result["models"]
    # Whatever else was fine-tuned in the same way on the same data is what the scores are to be held against.
    others = {name: {metric: score["mean"] for metric, score in one["metrics"].items()} for name, one in models.items()}
    others.pop(role)
    others["majority class"] = result["baseline"]["metrics"]
    for baseline in (result.get("baselines") or {}).values():
        others[baseline["title"]] = {name: baseline[name]["mean"] for name in result["metrics"]}
    return {
        "name": result["task"]["name"],
        "kind": result["task"]["kind"],
        "examples": result["task"]["examples"].get("heldout"),
        "seeds": [run["seed"] for run in models[role]["seeds"]],
        "metrics": {name: {key: score[key] for key in ("mean", "low", "high")} for name, score in models[role]["metrics"].items()},
        "baselines": others,
    }


def _cost(made: Made) -> dict[str, Any]:
    """Returns the wall seconds of a stage, and its processor-seconds where it counted them."""
    result = made.result
    parts = [result, *(result["models"].values() if "models" in result else [result.get("twin") or {}])]
    spent = [part.get("processor_seconds", (part.get("cost") or {}).get("processor_seconds")) for part in parts]
    if "models" in result:
        spent = spent[1:]
    counted = [seconds for seconds in spent if seconds is not None]
    return {"seconds": made.manifest["seconds"], "processor_seconds": sum(counted) if counted else None}


def _architecture(made: Mapping[str, Made]) -> str | None:
    return made["distill"].result["architecture"] if "distill" in made else None
