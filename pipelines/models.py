"""Which model directories the later stages work on."""

from __future__ import annotations

from pathlib import Path

from bort.errors import ConfigurationError
from pipelines.stage import Run

ROLES = ("student", "twin", "teacher")


def encoders(run: Run) -> dict[str, Path]:
    """Returns the directories of the encoders that ``finetune.models`` names, by role and in that order.

    Raises:
        ConfigurationError: A role is not known, or the distillation made no such model.
    """
    config, found = run.config, {}
    for role in config.finetune.models:
        if role not in ROLES:
            raise ConfigurationError("finetune.models", role, f"any of {', '.join(ROLES)} are accepted")
        if role == "teacher":
            found[role] = Path(config.teacher.path)
        elif role == "student" and config.student.path is not None:
            found[role] = Path(config.student.path)
        else:
            distilled = run.inputs["distill"] if role == "student" else run.inputs["distill"].get("twin")
            if distilled is None:
                raise ConfigurationError("finetune.models", role, "the twin is trained only with distill.twin=true")
            found[role] = Path(distilled["student"])
    return found
