"""What stages that run Agora share: the teacher as the encoder of the labeller, and the ledger's figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.finetuning.agora.config import AgoraConfig
from pipelines.schema import Config
from pipelines.stage import Run


def with_teacher(config: Config) -> AgoraConfig:
    """Returns the settings of Agora with the teacher where no encoder of its own was named."""
    agora = config.agora
    if agora.labeller.encoder is not None:
        return agora
    return replace(agora, labeller=replace(agora.labeller, encoder=config.teacher.path))


def draw_ledgers(run: Run, role: str, result: Mapping[str, Any], directory: Path) -> None:
    """Draws the ledgers of a model's seeds and keeps the figure with the tracked run."""
    from bort.report.agora import ledgers

    drawing = ledgers(result, role)
    drawing.write(directory)
    run.tracked.artifact(directory / f"{drawing.name}.svg")
