"""Errors from one weight-sharing student: trained once for all candidates, each of which is a slice of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bort.architecture import Architecture
from bort.candidate import Evaluation, SharedCost, Theta
from bort.distillation.config import LossConfig, StudentConfig, TrainConfig
from bort.distillation.estimator import ANSWERS, Answers, check_measure
from bort.errors import BortError
from bort.files import digest, translate_disk_full
from bort.observer import Observer
from bort.runtime_config import ImplConfig

if TYPE_CHECKING:
    from bort.corpus.config import MaskingConfig
    from bort.corpus.dataset import Corpus
    from bort.distillation.data import LiveTargets
    from bort.distillation.supernet.training import SupernetTraining
    from bort.distillation.supernet.weights import Supernet
    from bort.teacher.model import Teacher
    from bort.teacher.targets import Targets


class SupernetEstimator:
    """Trains one weight-sharing student for the whole space, and measures each candidate's slice on the held-out blocks.

    A candidate costs no training steps, so there is one rung, of 0 steps. What the shared training cost is told once, by
    :meth:`shared_cost`: a step that trains four slices counts as four. A candidate's checkpoint is its slice, copied into a stock
    transformers model.

    Args:
        shapes: The search space.
        steps: Steps of the shared training.
        samples: Slices that are drawn in each step.
        sandwich: Whether the largest and the smallest slice are in every step.
        checkpoint_every: Steps between two checkpoints of the shared training.
        measure: The held-out figure that is the error e: a key of :data:`bort.distillation.estimator.MEASURES`.
        directory: Where the weight-sharing student is kept; the same for all workers.
        teacher: The teacher.
        corpus: The blocks.
        targets: The teacher's outputs, or none for masked LM alone.
        masking: How blocks are masked.
        loss: The terms of the loss.
        train: The settings of training.
        student: Initialisation and dropout.
        impl: How training is carried out.
        seed: Seeds the shared training.

    Raises:
        ConfigurationError: The relation heads do not divide a hidden size, or the measure does not go with
            loss and targets.
    """

    name = "supernet"
    rungs: Sequence[int] = (0,)

    def __init__(
        self,
        shapes: Sequence[Architecture],
        *,
        steps: int,
        samples: int,
        sandwich: bool,
        checkpoint_every: int,
        measure: str,
        directory: Path,
        teacher: Teacher,
        corpus: Corpus,
        targets: Targets | LiveTargets | None,
        masking: MaskingConfig,
        loss: LossConfig,
        train: TrainConfig,
        student: StudentConfig,
        impl: ImplConfig,
        seed: int,
    ) -> None:
        loss.check()
        check_measure(measure, loss, targets.kind if targets is not None else None)
        for hidden in sorted({shape.hidden for shape in shapes}):
            loss.check_widths(hidden, teacher.architecture.hidden)
        self.shapes, self.steps, self.samples, self.sandwich = list(shapes), steps, samples, sandwich
        self.checkpoint_every, self.measure, self.directory = checkpoint_every, measure, Path(directory)
        self.teacher, self.corpus, self.targets, self.masking = teacher, corpus, targets, masking
        self.loss, self.train, self.student = loss, replace(train, evaluate_every=0), student
        self.impl, self.seed = impl, seed
        self._trained: tuple[Supernet, SharedCost] | None = None

    @property
    def fingerprint(self) -> str:
        """Identifies everything that fixes the answers."""
        return digest({"estimator": self.name, "measure": self.measure, "training": self._training().fingerprint})

    def shared_cost(self) -> SharedCost:
        """Returns what the shared training has cost, over all its starts."""
        return self._supernet(None)[1]

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        """Returns the error of a candidate's slice, and leaves the slice as a model in ``directory``.

        Args:
            architecture: Its shape, one of the space.
            theta: Must be empty: all candidates share one training.
            steps: 0.
            directory: The candidate's own directory.
            observer: Told of the shared training's progress, where it is still to be done.

        Raises:
            BortError: θ is not empty, there is no such rung, or the shared training diverged.
            RecordError: ``directory`` belongs to another candidate or other settings.
        """
        if theta:
            raise BortError("One training serves all candidates: with error=supernet, leave search.thetas at [{}].")
        if steps != 0:
            raise BortError(f"There is no rung of {steps} steps; with error=supernet a candidate takes none of its own.")
        owner = digest({"fingerprint": self.fingerprint, "architecture": str(architecture)})
        answers = Answers(directory / ANSWERS, owner)
        if steps in answers.known:
            return answers.known[steps]
        supernet, _ = self._supernet(observer)
        wall, processor = time.perf_counter(), time.process_time()
        figures, checkpoint = self._measure(supernet, architecture, directory)
        return answers.add(
            Evaluation(
                steps=0,
                error=figures[self.measure],
                processor_seconds=time.process_time() - processor,
                seconds=time.perf_counter() - wall,
                checkpoint=checkpoint,
                metrics=figures,
            )
        )

    def _measure(self, supernet: Supernet, architecture: Architecture, directory: Path) -> tuple[dict[str, float], str]:
        from bort.distillation.data import BatchSource
        from bort.distillation.distill import STUDENT
        from bort.distillation.objective import Objective
        from bort.runtime import carried_out

        source = BatchSource(self.corpus, self.masking, self.loss, self.targets)
        objective = Objective(self.loss, self.teacher)
        if self.loss.hidden > 0:
            objective.measure_variance(source.sample())
        with carried_out(self.impl):
            batches = source.heldout_batches(self.train.batch_size, self.train.heldout_blocks)
            figures = objective.figures(supernet.eval().network(architecture), batches)
        with translate_disk_full(directory):
            supernet.extract(architecture).save(directory / STUDENT, self.teacher.tokenizer)
        return figures, str(directory / STUDENT)

    def _training(self) -> SupernetTraining:
        from bort.distillation.supernet.training import SupernetTraining

        return SupernetTraining(
            self.shapes,
            self.steps,
            self.samples,
            self.sandwich,
            self.teacher,
            self.corpus,
            self.targets,
            self.masking,
            self.loss,
            self.train,
            self.student,
            self.seed,
        )

    def _supernet(self, observer: Observer | None) -> tuple[Supernet, SharedCost]:
        from bort.distillation.data import memory_for
        from bort.distillation.supernet.training import train_supernet
        from bort.observer import Quiet

        if self._trained is None:
            self._trained = train_supernet(
                self._training(),
                self.directory,
                impl=self.impl,
                checkpoint_every=self.checkpoint_every,
                memory=memory_for(self.teacher, self.targets, self.corpus.block_length, self.loss, self.impl),
                observer=observer or Quiet(),
            )
        return self._trained
