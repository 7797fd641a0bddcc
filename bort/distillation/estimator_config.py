"""Settings of errors that come from training: a short distillation of each candidate, or one weight-sharing student for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from bort.architecture import Architecture
from bort.candidate import Estimator
from bort.distillation.terms import LossConfig
from bort.errors import ConfigurationError
from bort.quantities import ERRORS, ErrorConfig, ErrorInputs

if TYPE_CHECKING:
    from bort.distillation.setup import DistillationSetup

#: Folder of the weight-sharing student in the search's directory.
SUPERNET = "supernet"


@dataclass
class TrainedErrorConfig(ErrorConfig):
    """An error that is a held-out metric of trained weights."""

    steps: Annotated[int, Ge(1)] = 100
    """n, the training steps of a candidate that is trained to the end, or those of the shared training."""

    measure: str = "relation_cross_entropy"
    """The held-out metric that is e: an error of one of the loss terms, such as ``relation_cross_entropy``,
    ``relation_kl``, ``kl``, ``cross_entropy`` or ``hidden_mse``.
    """

    loss: dict[str, float] = field(default_factory=dict)
    """Weights of loss terms that replace those of ``loss`` for the candidates; a term that learns nothing
    within so few steps only blurs their order.
    """

    trains: ClassVar[bool] = True

    def changed(self, loss: LossConfig) -> LossConfig:
        """Return the loss that candidates are trained with."""
        return loss.changed(self.loss, "error.loss")

    def check_training(self, loss: LossConfig, kind: str | None, hidden: Sequence[int], teacher: Architecture) -> None:
        """Refuse a loss and a measure that some candidate could not be trained or measured with.

        Args:
            loss: The search's loss, before :meth:`changed`.
            kind: The kind of soft targets, if there are any.
            hidden: The hidden sizes of the candidates.
            teacher: The teacher's shape.

        Raises:
            ConfigurationError: The loss does not go with a hidden size, or the measure not with the loss and the targets.
        """
        changed = self.changed(loss)
        for width in sorted(set(hidden)):
            changed.check_widths(width, teacher.hidden)
        changed.check_error(self.measure, kind)

    def setup(self, inputs: ErrorInputs) -> DistillationSetup:
        """Open what candidates are trained on, with the loss of the candidates."""
        setup: DistillationSetup = inputs.setup()
        return replace(setup, loss=self.changed(setup.loss))


@ERRORS.register
@dataclass
class DistillErrorConfig(TrainedErrorConfig):
    """Short real distillation on common random numbers."""

    name: str = "distill"

    rungs: Annotated[int, Ge(1)] = 3
    """Points of the learning curve, the last at ``steps``; each is at twice the steps of the one before."""

    curve: list[Annotated[int, Ge(1)]] = field(default_factory=list)
    """Step counts of the rungs, ascending, as an alternative to halving; the last is ``steps``. Replaces
    ``rungs``.
    """

    def check(self, key: str) -> None:
        """Refuse rungs that do not lead up to ``steps``."""
        if self.curve:
            if self.curve != sorted(set(self.curve)) or self.curve[-1] != self.steps:
                accepted = f"an ascending list of integers >= 1 that ends in {key}.steps={self.steps}"
                raise ConfigurationError(f"{key}.curve", self.curve, accepted)
        elif self.steps >> (self.rungs - 1) < 1:
            accepted = f"an integer in [1, {self.steps.bit_length()}], as each rung halves {key}.steps"
            raise ConfigurationError(f"{key}.rungs", self.rungs, accepted)

    def rung_steps(self) -> list[int]:
        """Return the step counts of the rungs, ascending."""
        return list(self.curve) or [self.steps >> rung for rung in reversed(range(self.rungs))]

    def build(self, inputs: ErrorInputs) -> Estimator:
        """Build the estimator, with the teacher loaded and the corpus opened."""
        from bort.distillation.estimator import DistillEstimator

        return DistillEstimator(self.setup(inputs), self.rung_steps(), self.measure, inputs.impl)


@ERRORS.register
@dataclass
class SupernetErrorConfig(TrainedErrorConfig):
    """One weight-sharing student, trained once; every candidate is a slice of it."""

    name: str = "supernet"

    steps: Annotated[int, Ge(1)] = 400
    """Steps of the shared training. Each step trains four slices, so 400 steps cost as many network steps as
    sixteen candidates of a hundred steps.
    """

    samples: Annotated[int, Ge(0)] = 2
    """Slices drawn uniformly from the space in each step."""

    sandwich: bool = True
    """Whether the largest and the smallest slice are in every step too."""

    checkpoint_every: Annotated[int, Ge(1)] = 100
    """Steps between two checkpoints of the shared training."""

    reference: str | None = None
    """A CSV file of errors of full trainings (or ``bortbench``) to compare these errors with; none if
    ``null``.
    """

    only_default_theta: ClassVar[str] = "one training serves all candidates"

    def check(self, key: str) -> None:
        """Refuse steps without any slice."""
        if self.samples == 0 and not self.sandwich:
            raise ConfigurationError(f"{key}.samples", 0, f"an integer >= 1 with {key}.sandwich=false")

    def build(self, inputs: ErrorInputs) -> Estimator:
        """Build the estimator; the shared training begins with the first evaluation."""
        from bort.distillation.supernet.estimator import SupernetEstimator
        from bort.distillation.supernet.training import SupernetTraining

        training = SupernetTraining(self.setup(inputs), list(inputs.shapes), self.steps, self.samples, self.sandwich)
        directory = Path(inputs.directory) / SUPERNET
        return SupernetEstimator(training, self.measure, directory, impl=inputs.impl, checkpoint_every=self.checkpoint_every)
