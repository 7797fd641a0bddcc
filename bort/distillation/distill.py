"""The distillation of one student: from blocks and targets to a model, a curve and held-out metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from bort.architecture import Architecture
from bort.checkpoints import CheckpointFolder
from bort.curve import Point
from bort.distillation.callback import Progress
from bort.distillation.config import ENDING_SCHEDULES, BudgetConfig
from bort.distillation.data import BatchSource
from bort.distillation.loop import fit
from bort.distillation.objective import Objective
from bort.distillation.setup import DistillationSetup
from bort.distillation.student import StudentModel, build_student, student_parameters
from bort.distillation.targets import RelationMemory
from bort.distillation.utilisation import PeakMemory, flops_per_token, peak_flops
from bort.files import atomic_path, digest, translate_disk_full
from bort.observer import Observer, Quiet
from bort.runtime import carried_out, make_trainer, quiet_lightning
from bort.runtime_config import ImplConfig
from bort.settings import check_settings

STUDENT = "student"
CHECKPOINTS = "checkpoints"
PROJECTION = "projection.safetensors"


class Costs(TypedDict):
    """Costs and utilization of a distillation.

    Attributes:
        seconds: Wall time of training and evaluation, over all starts, up to the checkpoints resumed from.
        processor_seconds: Processor time, likewise, of all processes.
        gpu_seconds: Wall seconds times GPUs; 0 without any.
        tokens_per_second: Tokens per second of wall time without evaluation.
        mfu: Model FLOPs utilization: FLOPs per token × tokens per second ÷ the peak of all devices; ``None``
            if that is unknown.
        flops_per_token: See :func:`bort.distillation.utilisation.flops_per_token`.
        peak_flops: The peak of one device, in FLOP/s.
        peak_flops_source: Source of that number, or the reason for its absence.
        data_wait: Share of the training's time in which a step waited for its data.
        padding: Share of the tokens that are padding: 0, for blocks are packed full.
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


class DistillResult(Costs):
    """Result of a distillation.

    Attributes:
        architecture: The student's shape, as ``D4-A8-H1024-I768``.
        parameters: p, the parameters of its encoder and embeddings.
        parameters_with_head: The same with the masked-LM head.
        steps: Steps trained.
        tokens: Tokens read in training.
        blocks: Different training blocks among them, at most.
        epochs: How often each of these was read, on average.
        heldout: Held-out metrics by name; loss and targets decide which.
        heldout_blocks: Blocks they rest on.
        head_trained: Whether the masked-LM head was trained; a student of hidden states and relations alone
            keeps a random one.
        curve: The points of ``curve.jsonl``.
        peak_memory_bytes: Largest resident size of the process (the first, where there are several).
        peak_device_memory_bytes: Largest allocation on its GPU; none where there was none.
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
    peak_memory_bytes: int
    peak_device_memory_bytes: int | None
    student: str


def distill(
    architecture: Architecture,
    setup: DistillationSetup,
    budget: BudgetConfig,
    directory: Path | str,
    *,
    impl: ImplConfig,
    keep_checkpoints: int = 2,
    memory: RelationMemory | None = None,
    observer: Observer | None = None,
) -> DistillResult:
    """Train a student of ``architecture``, resuming from the last good checkpoint in ``directory``.

    Killed at any moment and called again with the same arguments, it ends with the same weights, optimizer
    state and curve, bit for bit on one machine's processor with the same number of threads. Called again with
    more steps and a constant learning rate, it resumes. With a budget in seconds no two runs are the same.

    Several processes share each step's blocks if ``impl`` has several devices: each calls this function with
    the same arguments, in an environment as torchrun sets it. The first writes; the others return no curve.

    Args:
        architecture: The student's shape.
        setup: Teacher, data, loss and optimizer.
        budget: The length of the training, and the steps between two checkpoints; there is always one at the
            last step.
        directory: Gets ``student/``, ``curve.jsonl``, ``checkpoints/`` and, if hidden states are compared,
            the projection.
        impl: Device, precision and threads.
        keep_checkpoints: How many of the newest checkpoints are kept.
        memory: Cache of the teacher's relations, shared between calls; changes the speed only.
        observer: Notified of progress, curve and damaged checkpoints.

    Raises:
        BortError: Settings do not go together, or training diverged (as
            :class:`bort.distillation.loop.DivergenceError`).
        RecordError: ``directory`` holds checkpoints of other settings.
    """
    check_settings(budget, "budget")
    setup.check(architecture, impl.devices * impl.nodes)
    loss, train = setup.loss, setup.train
    steps = budget.length(setup.tokens_per_step)
    source, directory = BatchSource(setup, memory), Path(directory)
    identity = {
        "architecture": str(architecture),
        "identity": setup.identity(),
        "length": (steps or budget.seconds) if train.schedule in ENDING_SCHEDULES else None,
    }
    checkpoints = CheckpointFolder(directory / CHECKPOINTS, digest(identity), keep_checkpoints)
    with prepared(setup, impl) as trainer:
        device = trainer.strategy.root_device
        memory_use = PeakMemory(str(device))
        model = build_student(architecture, setup.teacher, setup.student, seed=setup.seed, project=loss.projects).to(device)
        if impl.compile:
            # In place: names of weights stay as they are.
            model.encoder.compile(backend=impl.compile_backend)
        trained = fit(
            model, Objective(setup), source, budget, checkpoints=checkpoints, trainer=trainer, observer=observer or Quiet()
        )
        peak = peak_flops(str(device), impl.precision)
    if trainer.global_rank == 0:
        with translate_disk_full(directory):
            _save(model.to("cpu"), setup.teacher.tokenizer, directory)
    progress, count = trained.progress, source.count("train", train.blocks)
    blocks = progress.step * train.batch_size
    flops = flops_per_token(setup.sizes(architecture), loss, online=setup.online is not None)
    costs = _costs(progress, setup.tokens_per_step, flops, peak, trainer.world_size if device.type == "cuda" else 0)
    return DistillResult(
        architecture=str(architecture),
        parameters=student_parameters(model),
        parameters_with_head=student_parameters(model, head=True),
        steps=progress.step,
        tokens=progress.step * setup.tokens_per_step,
        blocks=min(count, blocks),
        epochs=blocks / count,
        heldout=trained.metrics,
        heldout_blocks=source.count("heldout", train.heldout_blocks),
        head_trained=loss.masked,
        curve=trained.curve,
        **costs,
        peak_memory_bytes=memory_use.process(),
        peak_device_memory_bytes=memory_use.on_device(),
        student=str(directory / STUDENT),
    )


@contextmanager
def prepared(setup: DistillationSetup, impl: ImplConfig) -> Iterator[Any]:
    """Yield Lightning's trainer, with the teacher on its device and the threads set inside the block."""
    with carried_out(impl) as kind:
        with quiet_lightning():
            trainer = make_trainer(impl, kind, unused=not setup.loss.masked)
        before = setup.teacher.device
        setup.teacher.to(trainer.strategy.root_device)
        try:
            yield trainer
        finally:
            setup.teacher.to(before)


def _costs(progress: Progress, tokens_per_step: int, flops: float, peak: tuple[float | None, str], gpus: int) -> Costs:
    training = progress.seconds - progress.evaluation_seconds
    rate = progress.step * tokens_per_step / training if training > 0 else 0.0
    return Costs(
        seconds=progress.seconds,
        processor_seconds=progress.processor_seconds,
        gpu_seconds=progress.seconds * gpus,
        tokens_per_second=rate,
        # A processor's peak is that of all its threads, whatever the number of processes.
        mfu=flops * rate / (peak[0] * max(1, gpus)) if peak[0] else None,
        flops_per_token=flops,
        peak_flops=peak[0],
        peak_flops_source=peak[1],
        data_wait=progress.waited / training if training > 0 else 0.0,
        padding=0.0,
    )


def _save(student: StudentModel, tokenizer: Any, directory: Path) -> None:
    from safetensors.torch import save_file

    if student.projection is not None:
        with atomic_path(directory / PROJECTION) as temporary:
            save_file({name: value.contiguous() for name, value in student.projection.state_dict().items()}, temporary)
    student.save(directory / STUDENT, tokenizer)
