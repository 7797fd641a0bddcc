"""Errors from one weight-sharing student: trained once for all candidates, each of which is a slice of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bort.architecture import Architecture
from bort.candidate import Evaluation, SharedCost, Theta
from bort.distillation.estimator import ANSWERS, Answers
from bort.errors import BortError
from bort.files import digest, translate_disk_full
from bort.observer import Observer
from bort.runtime_config import ImplConfig

if TYPE_CHECKING:
    from bort.distillation.supernet.training import SupernetTraining
    from bort.distillation.supernet.weights import Supernet


class SupernetEstimator:
    """Errors of slices of one weight-sharing student, trained once for the entire space.

    A candidate costs no training steps, so there is one rung, of 0 steps. The cost of the shared training is
    reported once, by :meth:`shared_cost`: a step that trains four slices counts as four. A candidate's
    checkpoint is its slice, copied into a stock transformers model.

    Args:
        training: The shared training.
        measure: The held-out metric that is the error e.
        directory: Where the weight-sharing student is kept; the same for all workers.
        impl: Device, precision and threads.
        checkpoint_every: Steps between two checkpoints of the shared training.

    Raises:
        ConfigurationError: The relation heads do not divide a hidden size, or the measure does not go with
            loss and targets.
    """

    name = "supernet"
    rungs: Sequence[int] = (0,)

    def __init__(
        self, training: SupernetTraining, measure: str, directory: Path, *, impl: ImplConfig, checkpoint_every: int
    ) -> None:
        setup = training.setup
        setup.loss.check_error(measure, setup.kind)
        for shape in {shape.hidden: shape for shape in training.shapes}.values():
            setup.check(shape)
        self.training = replace(training, setup=replace(setup, train=replace(setup.train, evaluate_every=0)))
        self.measure, self.directory, self.impl, self.checkpoint_every = measure, Path(directory), impl, checkpoint_every
        self._trained: tuple[Supernet, SharedCost] | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of everything that fixes the evaluations."""
        return digest({"estimator": self.name, "measure": self.measure, "training": self.training.fingerprint})

    def shared_cost(self) -> SharedCost:
        """Return the cost of the shared training, over all starts."""
        return self._supernet(None)[1]

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        """Return the error of a candidate's slice, and write the slice as a model to ``directory``.

        Args:
            architecture: Its shape, one of the space.
            theta: Must be empty: all candidates share one training.
            steps: 0.
            directory: The candidate's own directory.
            observer: Notified of the shared training's progress.

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
        metrics, checkpoint = self._measure(supernet, architecture, directory)
        return answers.add(
            Evaluation(
                steps=0,
                error=metrics[self.measure],
                processor_seconds=time.process_time() - processor,
                seconds=time.perf_counter() - wall,
                checkpoint=checkpoint,
                metrics=metrics,
            )
        )

    def _measure(self, supernet: Supernet, architecture: Architecture, directory: Path) -> tuple[dict[str, float], str]:
        from bort.distillation.data import BatchSource
        from bort.distillation.distill import STUDENT
        from bort.distillation.objective import Objective
        from bort.runtime import carried_out

        setup = self.training.setup
        source, objective = BatchSource(setup), Objective(setup)
        with carried_out(self.impl):
            batches = source.heldout_batches()
            metrics = objective.metrics(supernet.eval().network(architecture), batches)
        with translate_disk_full(directory):
            supernet.extract(architecture).save(directory / STUDENT, setup.teacher.tokenizer)
        return metrics, str(directory / STUDENT)

    def _supernet(self, observer: Observer | None) -> tuple[Supernet, SharedCost]:
        from bort.distillation.supernet.training import train_supernet
        from bort.observer import Quiet

        if self._trained is None:
            self._trained = train_supernet(
                self.training,
                self.directory,
                impl=self.impl,
                checkpoint_every=self.checkpoint_every,
                observer=observer or Quiet(),
            )
        return self._trained
