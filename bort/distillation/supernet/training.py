"""The training of a weight-sharing student: the usual loop, with several slices of one bank per step.

Each step takes one batch, the same blocks, masks and targets as any student's, through the largest slice, the
smallest, and some that are drawn evenly from the space (the sandwich rule of Yu and Huang 2019,
arXiv:1903.05134), and follows the mean of their gradients. Which slices are drawn is a function of the seed
and of the batch, so a killed training resumes unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.architecture import Architecture
from bort.candidate import SharedCost
from bort.checkpoints import CheckpointFolder
from bort.distillation.config import BudgetConfig
from bort.distillation.data import BatchSource
from bort.distillation.distill import CHECKPOINTS, prepared
from bort.distillation.forward import Batch
from bort.distillation.loop import fit
from bort.distillation.objective import Objective
from bort.distillation.setup import DistillationSetup
from bort.distillation.student import StudentModel
from bort.distillation.supernet.weights import Supernet
from bort.errors import RecordError
from bort.files import atomic_path, digest, read_json, translate_disk_full, write_json
from bort.locks import exclusive
from bort.observer import Observer
from bort.randomness import seeded_generator
from bort.record import refuse_difference
from bort.runtime_config import ImplConfig

WEIGHTS = "supernet.safetensors"
RECORD = "supernet.json"
#: Key of the tensor of a batch that its slices are drawn from.
_DRAW = "draw"
_DRAW_STREAM = 0x5A0D


@dataclass(frozen=True)
class SupernetTraining:
    """Everything that fixes the result of a shared training.

    Args:
        setup: Teacher, data, loss and optimizer.
        shapes: The space.
        steps: Steps; each trains ``samples`` slices and, with ``sandwich``, the largest and the smallest.
        samples: Slices that are drawn in each step.
        sandwich: Whether the largest and the smallest slice are in every step.
    """

    setup: DistillationSetup
    shapes: Sequence[Architecture]
    steps: int
    samples: int
    sandwich: bool

    @property
    def networks(self) -> int:
        """Slices that each step trains."""
        return self.samples + 2 * self.sandwich

    @property
    def fingerprint(self) -> str:
        """Digest of the training, all its settings and the space."""
        own = {"steps": self.steps, "samples": self.samples, "sandwich": self.sandwich}
        return digest({"supernet": own, "shapes": sorted(map(str, self.shapes)), **self.setup.identity()})

    def draw(self, key: Sequence[int]) -> list[Architecture]:
        """Return the slices of the batch that ``key`` stands for, drawn ones without repetition."""
        generator = seeded_generator(self.setup.seed, _DRAW_STREAM, *key)
        drawn = generator.choice(len(self.shapes), size=min(self.samples, len(self.shapes)), replace=False)
        return [self.shapes[int(index)] for index in drawn]


def train_supernet(
    training: SupernetTraining,
    directory: Path,
    *,
    impl: ImplConfig,
    checkpoint_every: int,
    observer: Observer,
) -> tuple[Supernet, SharedCost]:
    """Return the trained bank and its cost: read from ``directory`` if complete, else trained from there.

    One process trains at a time. Another one that asks for the same directory waits; if the first one was
    killed it resumes from the last checkpoint and ends with the same weights, bit for bit on one machine's
    processor with the same number of threads.

    Args:
        training: What is trained.
        directory: Holds checkpoints and curve, and in the end ``supernet.safetensors`` and ``supernet.json``.
        impl: Device, precision and threads.
        checkpoint_every: Steps between two checkpoints.
        observer: Notified of progress and curve.

    Raises:
        BortError: Training diverged, or the disk is full.
        RecordError: The directory holds a training of other settings.
    """
    directory = Path(directory)
    with exclusive(directory, wait=False) as mine:
        if mine:
            return _trained(training, directory, impl, checkpoint_every, observer)
    observer.progress("supernet", 0, training.steps, "another worker is training")
    with exclusive(directory):
        return _trained(training, directory, impl, checkpoint_every, observer)


def _trained(
    training: SupernetTraining, directory: Path, impl: ImplConfig, checkpoint_every: int, observer: Observer
) -> tuple[Supernet, SharedCost]:
    fingerprint, setup = training.fingerprint, training.setup
    supernet = Supernet(training.shapes, setup.teacher, setup.student, seed=setup.seed, project=setup.loss.projects)
    record = directory / RECORD
    if record.exists():
        known = read_json(record)
        refuse_difference(directory, "a weight-sharing student", known["fingerprint"], fingerprint)
        _load(supernet, directory / WEIGHTS)
        return supernet, SharedCost(**known["cost"])
    checkpoints = CheckpointFolder(directory / CHECKPOINTS, fingerprint)
    source = _Source(setup, setup.relation_memory(impl.memory_megabytes))
    budget = BudgetConfig(steps=training.steps, checkpoint_every=checkpoint_every)
    with prepared(setup, impl) as trainer:
        student = cast(StudentModel, supernet.to(trainer.strategy.root_device))
        trained = fit(student, _Sandwich(training), source, budget, checkpoints=checkpoints, trainer=trainer, observer=observer)
        supernet.to("cpu")
    progress = trained.progress
    passes = progress.step * training.networks
    cost = SharedCost(passes, passes * setup.tokens_per_step, progress.processor_seconds, progress.seconds)
    with translate_disk_full(directory):
        _save(supernet, directory / WEIGHTS)
        # Written last: it marks the weights as complete.
        values = {"fingerprint": fingerprint, "steps": progress.step, "cost": asdict(cost), "largest": trained.metrics}
        write_json(record, values)
    checkpoints.clear()
    return supernet, cost


class _Source(BatchSource):
    """Batches that carry what their slices are drawn from: the epoch and the number of their first block."""

    def training_batch(self, epochs: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
        batch = super().training_batch(epochs, indices)
        return {**batch, _DRAW: torch.tensor([int(epochs[0]), int(indices[0])])}


class _Sandwich(Objective):
    """The mean loss of a step's slices."""

    def __init__(self, training: SupernetTraining) -> None:
        super().__init__(training.setup)
        self.training = training

    def terms(self, student: StudentModel, batch: Batch) -> dict[str, Tensor]:
        supernet = cast(Supernet, student)
        shapes = self.training.draw(batch[_DRAW].tolist())
        if self.training.sandwich:
            shapes = [supernet.largest, supernet.smallest, *shapes]
        found = [super(_Sandwich, self).terms(supernet.network(shape), batch) for shape in shapes]
        return {name: torch.stack([terms[name] for terms in found]).mean() for name in found[0]}

    def metrics(self, student: StudentModel, batches: Iterable[Batch], together: bool = False) -> dict[str, float]:
        supernet = cast(Supernet, student)
        return super().metrics(supernet.network(supernet.largest), batches, together)


def _save(supernet: Supernet, path: Path) -> None:
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file({name: value.detach().contiguous() for name, value in supernet.bank.items()}, temporary)


def _load(supernet: Supernet, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Any] = load_file(path)
        with torch.no_grad():
            for name, parameter in supernet.bank.items():
                parameter.copy_(weights[name])
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise RecordError(f"{path} cannot be read ({error}); remove {path.with_name(RECORD)}, and it is trained again.") from error
