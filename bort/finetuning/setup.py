"""Everything that determines the result of a fine-tuning, and its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bort.files import digest, file_digest
from bort.finetuning.config import FinetuningConfig
from bort.runtime_config import ImplConfig
from bort.settings import check_settings
from bort.tasks.task import Task

_MODEL_FILES = (".json", ".safetensors", ".txt", ".model", ".bin")


@dataclass(frozen=True)
class FinetuningSetup:
    """A model, a task and the settings of its fine-tuning.

    Args:
        model_dir: An encoder in transformers layout, or a hub id.
        task: The task.
        config: θ, Θ, seeds; take ``config.for_model(role)`` first where ``models`` is used.
        seed: Determines, together with the training's own seeds, everything that is drawn.
        impl: Device, precision and threads: change the speed only and are no part of the identity.
    """

    model_dir: str | Path
    task: Task
    config: FinetuningConfig = field(default_factory=FinetuningConfig)
    seed: int = 0
    impl: ImplConfig = field(default_factory=ImplConfig)

    def check(self) -> None:
        """Check every setting without loading a model.

        Raises:
            ConfigurationError: A value is invalid.
        """
        check_settings(self.config, "finetuning")
        check_settings(self.impl, "impl")

    def with_theta(self, theta: Mapping[str, Any]) -> FinetuningSetup:
        """Return this setup with the values of θ in place of its own.

        Raises:
            ConfigurationError: θ holds an unknown name or an invalid value.
        """
        return replace(self, config=self.config.with_theta(theta))

    @property
    def teacher(self) -> str | None:
        """Directory of the fine-tuned teacher; ``None`` if it has no part in the loss."""
        return self.config.teacher if self.config.teacher_weight > 0 else None

    def identity(self) -> dict[str, Any]:
        """Return what determines the result of all seeds; ``confidence`` and ``resamples`` only describe it."""
        without = ("confidence", "resamples", "teacher", "baselines")
        return {
            "model": model_digest(self.model_dir),
            "task": self.task.digest,
            "settings": {key: value for key, value in vars(self.config).items() if key not in without},
            "seed": self.seed,
            "teacher": model_digest(self.config.teacher) if self.config.teacher else None,
        }

    def fingerprint(self) -> str:
        """Return the digest of what determines the result of one training with ``seed``."""
        config = self.config
        teacher = [model_digest(config.teacher), config.temperature, config.teacher_weight] if config.teacher else []
        training = [config.theta(), config.pooling, config.patience, config.clip, self.seed, teacher]
        return digest([model_digest(self.model_dir), self.task.digest, *training])


def model_digest(model_dir: str | Path) -> str:
    """Return the digest of a model directory's files, or of a hub id."""
    path = Path(model_dir)
    if not path.is_dir():
        return digest(str(model_dir))
    files = sorted(file for file in path.iterdir() if file.suffix in _MODEL_FILES)
    return digest({file.name: file_digest(file) for file in files})
