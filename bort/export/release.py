"""What is told of an exported model where models are kept: the form that is served, figures, its name and a description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bort.export.config import NOT_IN_NAMES, ExportConfig

if TYPE_CHECKING:
    from bort.export.lineage import Made

#: The forms of a model in the result of :func:`bort.export.export_model`.
FORMS = ("transformers", "onnx", "optimised", "int8")
_FIGURES = ("bytes", "difference", "score", "lost")
_NOT_IN_NAMES = re.compile(f"[{re.escape(''.join(NOT_IN_NAMES))}]")


def served_form(result: Mapping[str, Any]) -> str:
    """Returns which form answers for a model: ``int8`` where a task has accepted it, else ``onnx`` or ``transformers``.

    Args:
        result: What :func:`bort.export.export_model` returned.
    """
    # What no task has judged does not answer for the model.
    if (result.get("int8") or {}).get("accepted"):
        return "int8"
    return "onnx" if result.get("onnx") else "transformers"


def served_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns the figures of what is served: its size in bytes, and its score where a task judged it."""
    form, int8 = served_form(result), result.get("int8") or {}
    score = int8.get("score" if form == "int8" else "full_score")
    return {"served/bytes": result[form]["bytes"], **({f"served/{int8['metric']}": score} if score is not None else {})}


def form_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns the figures of every form that was made: bytes, largest difference from torch, and what a task said of it."""
    forms = {name: result.get(name) or {} for name in FORMS}
    return {f"{name}/{key}": form[key] for name, form in forms.items() for key in _FIGURES if form.get(key) is not None}


def folders_beside(result: Mapping[str, Any], *, served: bool) -> list[str]:
    """Returns the folders that are kept beside the served model: what it holds already would be the same weights again.

    Args:
        result: What :func:`bort.export.export_model` returned.
        served: Whether there is a served model.
    """
    written = [name for name in ("transformers", "onnx") if name in result]
    held = "onnx" if "onnx" in result else "transformers"
    return [name for name in written if not (served and name == held)]


def subject(made: Mapping[str, Made]) -> str:
    """Returns what a model is for: the task that it was fine-tuned on; else ``student``, or ``model`` where no stage made it."""
    if "finetune" in made:
        return str(made["finetune"].result["task"]["name"])
    return "student" if "distill" in made else "model"


def registered_name(config: ExportConfig, run: str, made: Mapping[str, Made]) -> str | None:
    """Returns a model's name in the registry: the one that was asked for, else the run's with its subject; none for none."""
    if config.registered_model is not None:
        return config.registered_model or None
    return _NOT_IN_NAMES.sub("-", f"{run}-{subject(made)}")


def description(result: Mapping[str, Any], made: Mapping[str, Made]) -> str:
    """Returns what a model is, which runs made it, and what int8 loses of it, as Markdown.

    Args:
        result: What :func:`bort.export.export_model` returned.
        made: The stages that the model came from.
    """
    architecture, size = result["size"]["architecture"], result["size"]["total"]
    steps = [stage for stage in ("search", "distill", "finetune") if stage in made]
    lines = [f"{architecture}, {size / 1e6:.1f} M parameters, {subject(made)}; a {result['kind']}."]
    if steps:
        lines += ["", "Made by " + ", ".join(f"{stage} (`{made[stage].key}`)" for stage in steps) + "; the tags name the runs."]
    int8 = result.get("int8") or {}
    if int8.get("score") is not None:
        kept = "kept" if int8["accepted"] else "not kept"
        lines += ["", f"int8 {kept}: {int8['metric']} {int8['full_score']:.4f} → {int8['score']:.4f}, {int8['examples']} examples."]
    return "\n".join(lines)
