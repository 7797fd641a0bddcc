"""The parts that all runs of Agora on one setup share: encoder, generators, what trains the students."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.finetuning.agora.config import AgoraConfig, theta_grid
from bort.finetuning.agora.encoder import Contextual, Encoder
from bort.finetuning.agora.generators import Generator, build_generators
from bort.finetuning.agora.labeler import Labeler, build_labeler
from bort.finetuning.agora.retrieval import Pool
from bort.finetuning.agora.setup import AgoraSetup
from bort.finetuning.agora.training import Trainer
from bort.finetuning.workspace import Workspace
from bort.observer import Observer, Quiet
from bort.randomness import named_seed
from bort.tasks.task import Task


def without_heldout(task: Task) -> Task:
    """Return the task with its steering examples in place of the held-out ones, so that nothing can read those."""
    return replace(task, heldout=task.steering)


class AgoraWorkspace:
    """Encoder, generators and trainer, shared by all seeds.

    Args:
        setup: Student, task and settings.
        observer: Receives progress.
        encoder: The labeler's, if it is loaded already.
        pool: The setup's sentences, if their vectors are computed already.
        trainer: Class of what trains the students.
    """

    def __init__(
        self,
        setup: AgoraSetup,
        observer: Observer | None = None,
        *,
        encoder: Encoder | None = None,
        pool: Pool | None = None,
        trainer: type[Trainer] = Trainer,
    ) -> None:
        finetuning, agora = setup.finetuning, setup.agora
        config = finetuning.config
        self.setup, self.agora, self.observer = setup, agora.settled(), observer or Quiet()
        #: The task, held-out examples and all; only :meth:`bort.finetuning.agora.runs.score_iteration` reads those.
        self.task = finetuning.task
        self.blind = without_heldout(self.task)
        self.thetas = theta_grid(config)
        self.encoder, self.pool = encoder, pool
        if encoder is None and self.agora.labeller.encoder is not None:
            self.encoder = Encoder(self.agora.labeller.encoder, self.task.max_length)
        if pool is None and self.encoder is not None and setup.sentences and setup.retrieves():
            self.pool = Pool(setup.sentences, self.encoder, self.observer)
        self.generators = self._generators()
        # Agora's students learn from the labeler; a teacher of plain fine-tuning has no part in it.
        student = replace(finetuning, task=self.blind, config=replace(config, teacher=None))
        steps = agora.steps or config.epochs * -(-len(self.task.train) // config.batch_size)
        self.trainer = trainer(Workspace(student), config, steps=steps, judgements=agora.judgements)

    def _generators(self) -> list[Generator]:
        encoder = self.encoder
        return build_generators(
            self.agora.generators or [],
            self.blind,
            symmetric=self.task.name in self.agora.symmetric,
            neighbours=encoder.neighbours if encoder else None,
            contextual=(lambda: Contextual(encoder)) if encoder else None,
            pool=self.pool,
        )

    def variant(self, agora: AgoraConfig) -> AgoraWorkspace:
        """Return the same with other, settled settings of Agora; steps and judgements stay."""
        other = copy.copy(self)
        other.agora = agora
        other.generators = other._generators()
        return other

    def labeler(self, directory: Path, seed: int) -> tuple[Labeler, dict[str, Any]]:
        """Return the labeler and its record."""
        return build_labeler(
            self.agora.labeller,
            self.blind,
            directory=directory,
            encoder=self.encoder,
            seed=named_seed(seed, "labeller"),
            impl=self.setup.finetuning.impl,
            even=self.agora.even(self.task),
        )
