"""The distillation of one student: from blocks and targets to a transformers directory, its curve and its held-out figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from bort.architecture import Architecture
from bort.checkpoints import CheckpointFolder
from bort.corpus.order import BlockOrder
from bort.curve import Point
from bort.distillation.config import ENDING_SCHEDULES, LossConfig, StudentConfig, TrainConfig
from bort.distillation.data import BatchSource, LiveTargets
from bort.distillation.loop import CURVE, Ended, Loop
from bort.distillation.objective import Objective
from bort.distillation.student import StudentModel, build_student, student_parameters
from bort.distillation.utilisation import PeakMemory, flops_per_token, peak_flops
from bort.errors import BortError, ConfigurationError
from bort.files import atomic_path, digest, translate_disk_full
from bort.observer import Observer, Quiet
from bort.runtime import carried_out, make_trainer, quiet_lightning
from bort.runtime_config import ImplConfig

if TYPE_CHECKING:
    from bort.corpus.config import MaskingConfig
    from bort.corpus.dataset import Corpus
    from bort.distillation.data import RelationMemory
    from bort.teacher.model import Teacher
    from bort.teacher.targets import Targets

__all__ = ["CHECKPOINTS", "CURVE", "PROJECTION", "STUDENT", "DistillResult", "distill", "training_identity"]

STUDENT = "student"
CHECKPOINTS = "checkpoints"
PROJECTION = "projection.safetensors"


class Costs(TypedDict):
    """What a distillation cost, and how well it used its machine.

    Attributes:
        seconds: Wall time of training and evaluation, over all starts, up to the checkpoints that were gone on from.
        processor_seconds: Processor time, likewise, of all processes.
        gpu_seconds: Wall seconds times GPUs; 0 where there were none.
        tokens_per_second: Tokens per second of wall time, that of held-out figures left out.
        mfu: Model FLOPs utilisation: FLOPs per token × tokens per second ÷ the peak of all devices; none where no peak is known.
        flops_per_token: See :func:`bort.distillation.utilisation.flops_per_token`.
        peak_flops: The peak of one device, in FLOP/s.
        peak_flops_source: Where that number comes from, or why there is none.
        data_wait: Share of the training's time in which a step waited for its data.
        padding: Share of the tokens that are padding: 0, for blocks are packed full.
        peak_memory_bytes: Largest resident size of the process (the first, where there are several).
        peak_device_memory_bytes: Largest allocation on its GPU; none where there was none.
    """

    seconds: float
    processor_seconds: float
    gpu_seconds: float
    tokens_per_second: float
    mfu: float | None
    flops_per_token: float
    peak_flops: float | None
    peak_flops_source: str
    data_wait: float
    padding: float
    peak_memory_bytes: int
    peak_device_memory_bytes: int | None


class DistillResult(Costs):
    """What a distillation ended in, beside its costs.

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
    student: str


def distill(
    architecture: Architecture,
    *,
    teacher: Teacher,
    corpus: Corpus,
    targets: Targets | LiveTargets | None,
    masking: MaskingConfig,
    loss: LossConfig,
    train: TrainConfig,
    student: StudentConfig,
    steps: int | None,
    directory: Path | str,
    impl: ImplConfig,
    seed: int,
    seconds: float | None = None,
    checkpoint_every: int = 200,
    keep_checkpoints: int = 2,
    memory: RelationMemory | None = None,
    observer: Observer | None = None,
) -> DistillResult:
    """Trains a student of ``architecture`` for ``steps`` steps, going on from the last good checkpoint in ``directory``.

    Killed at any moment and called again with the same arguments, it ends with the same weights, optimizer state and curve, bit for
    bit on one machine's processor with the same number of threads. Called again with more steps and a constant rate, it goes on.
    With ``seconds`` instead of ``steps`` the clock ends the run, and no two runs are the same.

    Several processes share each step's blocks where ``impl`` has several devices: each calls this function with the same arguments,
    and the environment says which one it is, as torchrun sets it. The first writes; the others return no curve.

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
        steps: Steps in all; none where ``seconds`` are given.
        directory: Gets ``student/``, ``curve.jsonl``, ``checkpoints/`` and, where hidden states are compared, the projection.
        impl: Device, precision and threads.
        seed: Seeds weights, order and dropout.
        seconds: Wall seconds of training, over all starts, where the clock shall end it.
        checkpoint_every: Steps between two checkpoints; there is always one at the last step.
        keep_checkpoints: How many of the newest are kept.
        memory: The teacher's relations of training blocks, kept between calls; changes the speed only.
        observer: Told of progress, curve and damaged checkpoints.

    Raises:
        BortError: Settings do not fit each other, or training diverged (as :class:`bort.distillation.loop.DivergenceError`).
        RecordError: ``directory`` holds checkpoints of other settings.
    """
    listener: Observer = observer or Quiet()
    loss.check()
    train.check()
    train.check_parts(impl.devices * impl.nodes)
    _check(architecture, teacher, corpus, loss, steps, seconds)
    source = BatchSource(corpus, masking, loss, targets, memory)
    count = source.count("train", train.blocks)
    order = BlockOrder(count, train.batch_size, seed)
    directory = Path(directory)
    fingerprint = digest(
        {
            "architecture": str(architecture),
            "identity": training_identity(teacher, corpus, targets, masking, loss, train, student, seed),
            "length": (steps or seconds) if train.schedule in ENDING_SCHEDULES else None,
        }
    )
    checkpoints = CheckpointFolder(directory / CHECKPOINTS, fingerprint, keep_checkpoints)
    live = targets if isinstance(targets, LiveTargets) else None
    with carried_out(impl) as kind:
        with quiet_lightning():
            trainer = make_trainer(impl, kind, train.accumulate, unused=not loss.masked)
        device, before = trainer.strategy.root_device, teacher.device
        memory_use = PeakMemory(str(device))
        teacher.to(device)
        try:
            model = build_student(architecture, teacher, student, seed=seed, project=loss.hidden > 0).to(device)
            if impl.compile:
                # In place: names of weights stay as they are.
                model.encoder.compile(backend=impl.compile_backend)
            objective = Objective(loss, teacher, live)
            loop = Loop(
                model,
                objective,
                source,
                order,
                train,
                steps,
                seconds,
                seed,
                checkpoints,
                checkpoint_every,
                directory,
                trainer,
                listener,
            )
            ended = loop.run()
            peak = peak_flops(str(device), impl.precision)
        finally:
            teacher.to(before)
    if trainer.global_rank == 0:
        with translate_disk_full(directory):
            _save(model.to("cpu"), teacher.tokenizer, directory)
    tokens = ended.steps * train.batch_size * corpus.block_length
    flops = flops_per_token(
        architecture,
        teacher.vocab_size,
        corpus.block_length,
        masking.positions(corpus.block_length),
        loss,
        teacher,
        live=live is not None,
    )
    return DistillResult(
        architecture=str(architecture),
        parameters=student_parameters(model),
        parameters_with_head=student_parameters(model, head=True),
        steps=ended.steps,
        tokens=tokens,
        blocks=min(count, ended.steps * train.batch_size),
        epochs=ended.steps * train.batch_size / count,
        heldout=ended.figures,
        heldout_blocks=source.count("heldout", train.heldout_blocks),
        head_trained=loss.masked,
        curve=ended.curve,
        **_costs(ended, tokens, flops, peak, trainer.world_size if kind == "cuda" else 0, memory_use),
        student=str(directory / STUDENT),
    )


def _costs(ended: Ended, tokens: int, flops: float, peak: tuple[float | None, str], gpus: int, memory: PeakMemory) -> Costs:
    training = ended.seconds - ended.evaluation_seconds
    rate = tokens / training if training > 0 else 0.0
    return Costs(
        seconds=ended.seconds,
        processor_seconds=ended.processor_seconds,
        gpu_seconds=ended.seconds * gpus,
        tokens_per_second=rate,
        # A processor's peak is that of all its threads, whatever the number of processes.
        mfu=flops * rate / (peak[0] * max(1, gpus)) if peak[0] else None,
        flops_per_token=flops,
        peak_flops=peak[0],
        peak_flops_source=peak[1],
        data_wait=ended.waited / training if training > 0 else 0.0,
        padding=0.0,
        peak_memory_bytes=memory.process(),
        peak_device_memory_bytes=memory.on_device(),
    )


def training_identity(
    teacher: Teacher,
    corpus: Corpus,
    targets: Targets | LiveTargets | None,
    masking: MaskingConfig,
    loss: LossConfig,
    train: TrainConfig,
    student: StudentConfig,
    seed: int,
) -> dict[str, Any]:
    """Returns everything that fixes what a training gives, its architecture and length apart, as plain values.

    Whether the teacher's outputs were kept or come from a teacher that runs along makes no difference to it.
    """
    return {
        "teacher": teacher.digest,
        "corpus": corpus.digest,
        "targets": targets.record["identity"] if targets is not None else None,
        "masking": asdict(masking),
        "loss": asdict(loss),
        "train": asdict(train),
        "student": {name: getattr(student, name) for name in ("initialisation", "dropout", "initializer_range")},
        "seed": seed,
    }


def _check(
    architecture: Architecture, teacher: Teacher, corpus: Corpus, loss: LossConfig, steps: int | None, seconds: float | None
) -> None:
    if (steps is None) == (seconds is None):
        raise BortError("A training needs either steps or seconds, and only one of them.")
    if steps is not None and steps < 1:
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


def _save(student: StudentModel, tokenizer: Any, directory: Path) -> None:
    from safetensors.torch import save_file

    if student.projection is not None:
        with atomic_path(directory / PROJECTION) as temporary:
            save_file({name: value.contiguous() for name, value in student.projection.state_dict().items()}, temporary)
    student.save(directory / STUDENT, tokenizer)
