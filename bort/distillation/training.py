"""The distillation of one student: from blocks and targets to a transformers directory, its curve and its held-out figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch

from bort.architecture import Architecture
from bort.checkpoints import CheckpointFolder, restore_weights
from bort.corpus import BlockOrder
from bort.curve import Curve, Point
from bort.distillation.batches import Batch, BatchSource, TrainingBatches
from bort.distillation.config import ImplConfig, LossConfig, StudentConfig, TrainConfig
from bort.distillation.implementation import carried_out, make_trainer, quiet_lightning
from bort.distillation.objective import Objective
from bort.distillation.student import StudentModel, build_student, student_parameters
from bort.errors import BortError, ConfigurationError
from bort.events import Observer, Quiet
from bort.files import atomic_path, digest

if TYPE_CHECKING:
    from bort.corpus import Corpus, MaskingConfig
    from bort.distillation.memory import RelationMemory
    from bort.teacher import Teacher
    from bort.teacher.targets import Targets

CURVE = "curve.jsonl"
STUDENT = "student"
CHECKPOINTS = "checkpoints"
PROJECTION = "projection.safetensors"


class DistillResult(TypedDict):
    """What a distillation ended in.

    Attributes:
        architecture: The student's shape, as ``D4-A8-H1024-I768``.
        parameters: p, the parameters of its encoder and embeddings.
        parameters_with_head: The same with the masked-LM head.
        steps: Steps trained.
        tokens: Tokens read in training.
        blocks: Different training blocks among them, at most.
        epochs: How often each of these was read, on average.
        heldout: Held-out figures by name; which ones depends on loss and targets.
        heldout_blocks: Blocks they rest on.
        head_trained: Whether the masked-LM head was trained; a student of hidden states and relations alone keeps a random one.
        curve: The points of ``curve.jsonl``.
        seconds: Wall time of training and evaluation, over all starts, up to the checkpoints that were gone on from.
        processor_seconds: Processor time, likewise.
        tokens_per_second: Tokens per second of wall time.
        student: The student's transformers directory.
    """

    architecture: str
    parameters: int
    parameters_with_head: int
    steps: int
    tokens: int
    blocks: int
    epochs: float
    heldout: dict[str, float]
    heldout_blocks: int
    head_trained: bool
    curve: list[Point]
    seconds: float
    processor_seconds: float
    tokens_per_second: float
    student: str


def distill(
    architecture: Architecture,
    *,
    teacher: Teacher,
    corpus: Corpus,
    targets: Targets | None,
    masking: MaskingConfig,
    loss: LossConfig,
    train: TrainConfig,
    student: StudentConfig,
    steps: int,
    directory: Path | str,
    impl: ImplConfig,
    seed: int,
    checkpoint_every: int = 200,
    keep_checkpoints: int = 2,
    memory: RelationMemory | None = None,
    observer: Observer | None = None,
) -> DistillResult:
    """Trains a student of ``architecture`` for ``steps`` steps, going on from the last good checkpoint in ``directory``.

    Killed at any moment and called again with the same arguments, it ends with the same weights, optimizer state and curve, bit for
    bit on one machine's processor with the same number of threads. Called again with more steps and a constant rate, it goes on.

    Args:
        architecture: The student's shape.
        teacher: Gives tokenizer, family and vocabulary, and turns stored targets into relations and logits.
        corpus: The blocks.
        targets: The teacher's outputs; absent for masked LM alone. Held-out figures are computed from them also where the loss does
            not use them, so that a student trained without the teacher can be compared, on the same training blocks.
        masking: How blocks are masked.
        loss: The terms of the loss.
        train: The optimizer and the batches.
        student: Initialisation and dropout; its ``architecture`` is not looked at.
        steps: Steps in all.
        directory: Gets ``student/``, ``curve.jsonl``, ``checkpoints/`` and, where hidden states are compared, the projection.
        impl: Device, precision and threads.
        seed: Seeds weights, order and dropout.
        checkpoint_every: Steps between two checkpoints; there is always one at the last step.
        keep_checkpoints: How many of the newest are kept.
        memory: The teacher's relations of training blocks, kept between calls; changes the speed only.
        observer: Told of progress, curve and damaged checkpoints.

    Raises:
        BortError: Settings do not fit each other, or training diverged (as :class:`bort.distillation.module.DivergenceError`).
        RecordError: ``directory`` holds checkpoints of other settings.
    """
    listener: Observer = observer or Quiet()
    loss.check()
    train.check()
    _check(architecture, teacher, corpus, loss, steps)
    source = BatchSource(corpus, masking, loss, targets, memory)
    count = source.count("train", train.blocks)
    order = BlockOrder(count, train.batch_size, seed)
    directory = Path(directory)
    fingerprint = digest(
        {
            "architecture": str(architecture),
            "identity": training_identity(teacher, corpus, targets, masking, loss, train, student, seed),
            "steps": steps if train.schedule == "linear" else None,
        }
    )
    checkpoints = CheckpointFolder(directory / CHECKPOINTS, fingerprint, keep_checkpoints)
    with carried_out(impl) as device:
        before = teacher.device
        teacher.to(device)
        try:
            model = build_student(architecture, teacher, student, seed=seed, project=loss.hidden > 0).to(device)
            if impl.compile:
                # In place: names of weights stay as they are.
                model.encoder.compile()
            objective = Objective(loss, teacher)
            run = _Run(model, objective, source, order, train, steps, seed, checkpoints, checkpoint_every, listener, directory)
            figures, curve, seconds, processor_seconds = run.finish(impl, device)
        finally:
            teacher.to(before)
    _save(model.to("cpu"), teacher.tokenizer, directory)
    tokens = steps * train.batch_size * corpus.block_length
    return DistillResult(
        architecture=str(architecture),
        parameters=student_parameters(model),
        parameters_with_head=student_parameters(model, head=True),
        steps=steps,
        tokens=tokens,
        blocks=min(count, steps * train.batch_size),
        epochs=steps * train.batch_size / count,
        heldout=figures,
        heldout_blocks=source.count("heldout", train.heldout_blocks),
        head_trained=loss.masked,
        curve=curve,
        seconds=seconds,
        processor_seconds=processor_seconds,
        tokens_per_second=tokens / seconds if seconds > 0 else 0.0,
        student=str(directory / STUDENT),
    )


def training_identity(
    teacher: Teacher,
    corpus: Corpus,
    targets: Targets | None,
    masking: MaskingConfig,
    loss: LossConfig,
    train: TrainConfig,
    student: StudentConfig,
    seed: int,
) -> dict[str, Any]:
    """Returns everything that fixes what a training gives, its architecture and length apart, as plain values."""
    return {
        "teacher": teacher.digest,
        "corpus": corpus.digest,
        "targets": targets.digest if targets is not None else None,
        "masking": asdict(masking),
        "loss": asdict(loss),
        "train": asdict(train),
        "student": {name: getattr(student, name) for name in ("initialisation", "dropout", "initializer_range")},
        "seed": seed,
    }


class _Run:
    """The parts of one training, put together."""

    def __init__(
        self,
        student: StudentModel,
        objective: Objective,
        source: BatchSource,
        order: BlockOrder,
        train: TrainConfig,
        steps: int,
        seed: int,
        checkpoints: CheckpointFolder,
        checkpoint_every: int,
        observer: Observer,
        directory: Path,
    ) -> None:
        self.student, self.objective, self.source, self.order = student, objective, source, order
        self.train, self.steps, self.seed, self.observer = train, steps, seed, observer
        self.checkpoints, self.checkpoint_every, self.directory = checkpoints, checkpoint_every, directory

    def finish(self, impl: ImplConfig, device: str) -> tuple[dict[str, float], list[Point], float, float]:
        """Trains what is left to train, evaluates, and returns figures, curve, seconds and processor seconds."""
        from torch.utils.data import DataLoader

        from bort.distillation.module import DistillationModule, Recorder

        resumed = self.checkpoints.load(self.observer, self.steps)
        if resumed:
            restore_weights(self.student, resumed)
        curve = Curve(self.directory / CURVE, resumed.step if resumed else 0)
        try:
            recorder = Recorder(curve, self.checkpoints, self.checkpoint_every, lambda: self.evaluate(device), self.observer)
            if resumed:
                recorder.restore(resumed.state)
            first = resumed.step if resumed else 0
            if first < self.steps:
                module = DistillationModule(self.student, self.objective, self.train, self.steps, self.seed, resumed)
                module.kept = lambda: next(reversed(self.checkpoints.steps()), None)
                batches = TrainingBatches(self.source, self.order, first, self.steps)
                with quiet_lightning(), torch.random.fork_rng(enabled=self.student.model.config.hidden_dropout_prob > 0):
                    make_trainer(impl, device, [recorder]).fit(module, DataLoader(batches, batch_size=None))
                # Lightning leaves the student in training mode, and on the processor or its device as it was.
                self.student.to(device)
            figures = self.evaluate(device)
            recorder.add_heldout(self.steps, figures)
            curve.flush()
            recorder.count_time()
            return figures, curve.points, recorder.seconds, recorder.processor_seconds
        finally:
            curve.close()

    def evaluate(self, device: str) -> dict[str, float]:
        """Returns the held-out figures, or none where nothing is held out."""
        batches = self.source.heldout_batches(self.train.batch_size, self.train.heldout_blocks)
        return self.objective.figures(self.student, (_moved(batch, device) for batch in batches))


def _check(architecture: Architecture, teacher: Teacher, corpus: Corpus, loss: LossConfig, steps: int) -> None:
    if steps < 1:
        raise ConfigurationError("budget.steps", steps, "a whole number of at least 1 is needed")
    if corpus.tokenizer_digest != teacher.tokenizer_digest:
        raise BortError(
            f"The corpus in {corpus.directory} was not tokenised with the tokenizer of the teacher {teacher.path}: build it again."
        )
    if corpus.block_length > teacher.positions:
        accepted = f"teacher and student read at most {teacher.positions} tokens"
        raise ConfigurationError("corpus.block_length", corpus.block_length, accepted)
    if loss.soft_targets > 0 and not teacher.has_head:
        raise ConfigurationError(
            "loss.soft_targets", loss.soft_targets, f"the teacher {teacher.path} has no masked-LM head; use loss=representation"
        )
    loss.check_widths(architecture.hidden, teacher.architecture.hidden)


def _moved(batch: Batch, device: str) -> Batch:
    return batch if device == "cpu" else {name: tensor.to(device) for name, tensor in batch.items()}


def _save(student: StudentModel, tokenizer: Any, directory: Path) -> None:
    from safetensors.torch import save_file

    if student.projection is not None:
        with atomic_path(directory / PROJECTION) as temporary:
            save_file({name: value.contiguous() for name, value in student.projection.state_dict().items()}, temporary)
    student.save(directory / STUDENT, tokenizer)
