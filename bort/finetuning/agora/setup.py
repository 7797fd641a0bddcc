"""Everything that determines the result of a fine-tuning by Agora, and its identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bort.files import digest
from bort.finetuning.agora.config import AgoraConfig, check_agora
from bort.finetuning.setup import FinetuningSetup


@dataclass(frozen=True)
class AgoraSetup:
    """A fine-tuning and the settings of Agora.

    Args:
        finetuning: Student, task, defaults of θ, Θ under ``search`` as lists of choices, and the seeds.
        agora: Agora's own settings.
        sentences: Of a corpus, for the generator ``retrieve``.
    """

    finetuning: FinetuningSetup
    agora: AgoraConfig
    sentences: Sequence[str] = ()

    def check(self) -> None:
        """Check every setting without loading a model.

        Raises:
            ConfigurationError: A value is invalid, or the task is of a kind that Agora is not for.
        """
        self.finetuning.check()
        check_agora(self.finetuning.task, self.agora, self.finetuning.config)

    def identity(self) -> dict[str, Any]:
        """Return what determines the result of all seeds."""
        shared, config = self.finetuning.identity(), self.finetuning.config
        return {
            "model": shared["model"],
            "task": shared["task"],
            "settings": {**shared["settings"], "teacher": config.teacher},
            "agora": asdict(self.agora.settled()),
            "seed": shared["seed"],
            **({"sentences": digest(list(self.sentences))} if self.sentences else {}),
        }

    def retrieves(self) -> bool:
        """Whether points are taken from a corpus: a generator takes some, and the task has single texts."""
        return self.agora.retrieves() and all(len(one.texts) == 1 for one in self.finetuning.task.train)
