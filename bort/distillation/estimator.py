"""The estimator of errors by short, real distillations, equal in all but the shape."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.candidate import Evaluation, Theta
from bort.distillation.config import BudgetConfig, TrainConfig
from bort.distillation.setup import DistillationSetup
from bort.errors import BortError, ConfigurationError
from bort.files import digest, read_json, write_json
from bort.observer import Observer
from bort.record import refuse_difference
from bort.runtime_config import ImplConfig

if TYPE_CHECKING:
    from bort.distillation.targets import RelationMemory


ANSWERS = "evaluations.json"


class Answers:
    """The evaluations of one candidate, by steps.

    Args:
        path: The file.
        owner: Digest of the candidate and of all that fixes its answers.

    Raises:
        RecordError: The file belongs to another candidate or to other settings.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner
        self.known: dict[int, Evaluation] = {}
        if path.exists():
            record = read_json(path)
            refuse_difference(path, "the evaluations of a candidate", record["owner"], owner)
            self.known = {int(steps): _revive(values) for steps, values in record["evaluations"].items()}

    def add(self, evaluation: Evaluation) -> Evaluation:
        """Store an evaluation and return it."""
        self.known[evaluation.steps] = evaluation
        evaluations = {str(steps): asdict(known) for steps, known in self.known.items()}
        write_json(self.path, {"owner": self.owner, "evaluations": evaluations})
        return evaluation


def _revive(values: dict[str, Any]) -> Evaluation:
    """JSON has no NaN: an error that is absent was one."""
    error = values["error"]
    metrics = {name: math.nan if value is None else value for name, value in values["metrics"].items()}
    return Evaluation(**{**values, "error": math.nan if error is None else error, "metrics": metrics})


class DistillEstimator:
    """Errors of candidates that are trained on the same blocks, masks, targets and seed.

    After the warm-up the learning rate is constant, whatever ``train.schedule`` is: a candidate's metrics at
    one rung do not depend on later promotions, and a promotion costs the difference. A candidate's directory
    keeps its newest checkpoint and student, and the answers already given; at the last rung the checkpoint
    goes.

    Args:
        setup: Everything that the trainings share; a candidate's θ replaces some settings of its ``train``.
        rungs: Step counts at which an error can be requested.
        measure: The held-out metric that is the error e.
        impl: Device, precision and threads.

    Raises:
        ConfigurationError: There are no rungs, or the measure does not go with loss and targets.
    """

    name = "distill"

    def __init__(self, setup: DistillationSetup, rungs: Sequence[int], measure: str, impl: ImplConfig) -> None:
        self.rungs: Sequence[int] = tuple(sorted(set(rungs)))
        if not self.rungs or self.rungs[0] < 1:
            raise ConfigurationError("error.rungs", list(rungs), "a list of integers >= 1")
        self.setup = replace(setup, train=replace(setup.train, schedule="constant", evaluate_every=0))
        self.measure, self.impl = measure, impl
        self._memory: RelationMemory | None = None
        setup.loss.check_error(measure, setup.kind)

    @property
    def fingerprint(self) -> str:
        """Digest of everything that fixes the evaluations, except architecture, θ and rungs."""
        return digest({"estimator": self.name, "measure": self.measure, **self.setup.identity()})

    def evaluate(self, architecture: Architecture, theta: Theta, steps: int, directory: Path, observer: Observer) -> Evaluation:
        """Return the error of a candidate after ``steps`` steps; NaN where its training diverged.

        Args:
            architecture: Its shape.
            theta: Settings of training that replace the default ones, by name.
            steps: Steps in all; one of :attr:`rungs`.
            directory: The candidate's own directory.
            observer: Notified of progress and curve.

        Raises:
            BortError: ``steps`` is not a rung, or settings do not fit each other.
            RecordError: ``directory`` belongs to another candidate or other settings.
        """
        if steps not in self.rungs:
            raise BortError(f"There is no rung of {steps} steps; the rungs are {', '.join(str(rung) for rung in self.rungs)}.")
        train = replace(self.setup.train.with_theta(theta), schedule="constant", evaluate_every=0)
        owner = digest({"fingerprint": self.fingerprint, "architecture": str(architecture), "theta": dict(theta)})
        answers = Answers(directory / ANSWERS, owner)
        if steps in answers.known:
            return answers.known[steps]
        wall, processor = time.perf_counter(), time.process_time()
        before = [evaluation for earlier, evaluation in answers.known.items() if earlier < steps]
        evaluation = self._train(architecture, train, steps, directory, observer, before)
        evaluation = replace(evaluation, seconds=time.perf_counter() - wall, processor_seconds=time.process_time() - processor)
        answers.add(evaluation)
        if steps == self.rungs[-1] or not math.isfinite(evaluation.error):
            _drop_checkpoints(directory)
        _collect_trainers()
        return evaluation

    def _train(
        self,
        architecture: Architecture,
        train: TrainConfig,
        steps: int,
        directory: Path,
        observer: Observer,
        before: Sequence[Evaluation],
    ) -> Evaluation:
        from bort.distillation.distill import distill
        from bort.distillation.loop import DivergenceError

        diverged = next((evaluation for evaluation in before if not math.isfinite(evaluation.error)), None)
        if diverged is not None:
            return Evaluation(steps, math.nan, metrics=diverged.metrics)
        try:
            result = distill(
                architecture,
                replace(self.setup, train=train),
                BudgetConfig(steps=steps, checkpoint_every=steps),
                directory,
                impl=self.impl,
                keep_checkpoints=1,
                memory=self._relation_memory(),
                observer=observer,
            )
        except DivergenceError as error:
            return Evaluation(steps, math.nan, metrics={"diverged_at": float(error.step)})
        return Evaluation(
            steps,
            result["heldout"].get(self.measure, math.nan),
            tokens=result["tokens"] - sum(evaluation.tokens for evaluation in before),
            checkpoint=result["student"],
            metrics=result["heldout"],
        )

    def _relation_memory(self) -> RelationMemory | None:
        """Return the cache that the candidates share, created with the first of them."""
        if self._memory is None:
            self._memory = self.setup.relation_memory(self.impl.memory_megabytes)
        return self._memory


def _drop_checkpoints(directory: Path) -> None:
    from bort.checkpoints import CheckpointFolder
    from bort.distillation.distill import CHECKPOINTS

    CheckpointFolder(directory / CHECKPOINTS, "").clear()


def _collect_trainers() -> None:
    """Free the memory of the last training.

    A Lightning trainer and its module refer to each other, so only Python's cycle collector frees them, and
    it comes around too rarely: a search of a hundred candidates would grow by gigabytes. What outlives the
    first training is set aside, which makes each later collection a matter of milliseconds.
    """
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()
