"""What a search and a distillation would take on devices that are not at hand: operations counted, rates assumed or measured.

Operations are exact counts of matrix products (:func:`bort.distillation.utilisation.flops_per_token`). How many of them a device
does in a second is its peak times a utilisation, and that is an interval: the ends of each result take the worst and the best of
every assumption at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.benchmarks.config import DeviceConfig, FleetConfig
from bort.distillation.terms import LossConfig, Sizes
from bort.errors import ConfigurationError
from bort.files import read_json

if TYPE_CHECKING:
    from bort.teacher.shape import TeacherShape

#: Tokens that the paper's student read, by the reading of its released checkpoint: 44,100 steps of 1,024 blocks of 512.
PAPER_TOKENS = 44_100 * 1024 * 512
#: GPU hours on V100 that the paper gives for its distillation, and the V100's peak at half precision (data sheet).
PAPER_HOURS, PAPER_PEAK = 288.0, 125e12


@dataclass(frozen=True)
class Work:
    """What is to be trained.

    Args:
        shapes: The candidates.
        candidate_tokens: Tokens that each of them reads.
        distill_tokens: Tokens of the final distillation.
        block_length: Tokens of a block.
        masked: Masked positions of a block.
        loss: The terms of the loss.
    """

    shapes: Sequence[Architecture]
    candidate_tokens: int
    distill_tokens: int
    block_length: int
    masked: int
    loss: LossConfig


def fleet_cost(work: Work, teacher: TeacherShape, fleet: FleetConfig) -> dict[str, Any]:
    """Returns hours and prices by device.

    The teacher reads the search's blocks once, for all candidates; in the final distillation it runs along, for each block comes
    under other masks in each epoch and is read but once.

    Returns:
        ``flop`` (of ``search``, its ``teacher`` and ``distill``), ``paper`` (the utilisation that the paper's account implies) and
        ``rows``: for each device and job its ``device_hours``, ``hours`` (wall) and ``price``, each ``[low, likely, high]``.
    """
    theirs = teacher_flops(teacher, work)
    flop = {
        "teacher": theirs * work.candidate_tokens,
        "search": sum(student_flops(shape, teacher, work, online=False) for shape in work.shapes) * work.candidate_tokens,
        "distill": student_flops(Architecture.parse(fleet.student), teacher, work, online=True) * work.distill_tokens,
    }
    rows = []
    for name, device in fleet.devices.items():
        for job, amount in (("search", flop["search"] + flop["teacher"]), ("distill", flop["distill"])):
            beside = [len(work.shapes) * seconds / 3600.0 for seconds in fleet.candidate_seconds] if job == "search" else [0.0] * 3
            rows.append({"device": name, "job": job, **_row(amount, beside, device, job, fleet)})
    implied = student_flops(Architecture.parse(fleet.student), teacher, work, online=True)
    return {
        "flop": flop,
        "candidates": len(work.shapes),
        "candidate_tokens": work.candidate_tokens,
        "distill_tokens": work.distill_tokens,
        "paper": {
            "flops_per_token": implied,
            "tokens_per_second": PAPER_TOKENS / PAPER_HOURS / 3600.0,
            "utilisation": implied * PAPER_TOKENS / (PAPER_HOURS * 3600.0 * PAPER_PEAK),
        },
        "rows": rows,
        "assumptions": asdict(fleet),
    }


def with_measured(fleet: FleetConfig) -> FleetConfig:
    """Returns the fleet with the device that ``fleet.measured`` was measured on, used as well as by the fastest loop there.

    Its price is next to nothing, for what an hour of it costs is not known here.

    Args:
        fleet: A fleet; without ``measured`` it is returned as it is.

    Raises:
        RecordError: The file cannot be read.
        ConfigurationError: It tells of no device how well it was used.
    """
    if fleet.measured is None:
        return fleet
    found = read_json(Path(fleet.measured))
    rows = [row for row in found.get("rows", []) if row.get("mfu")]
    if not rows:
        accepted = "a result.json of `bort benchmark distill` with the device's utilization (mfu)"
        raise ConfigurationError("fleet.measured", fleet.measured, accepted)
    best = max(rows, key=lambda row: row["tokens_per_second"])
    peak = found["variants"][best["variant"]]["peak_flops"] / 1e12
    source = f"measured: {best['variant']} of {found['student']}, {best['tokens_per_second']:,.0f} tokens/s"
    # Above its own measured peak there is nothing to be had.
    used = min(1.0, best["mfu"])
    device = DeviceConfig(peak, [used, used, used], [1e-9, 1e-9, 1e-9], source)
    return replace(fleet, devices={**fleet.devices, f"{found['device']} here": device})


def student_flops(shape: Architecture, teacher: TeacherShape, work: Work, *, online: bool) -> float:
    """Returns the FLOP of training on one token: of the student, and of the teacher as far as it runs along."""
    from bort.distillation.utilisation import flops_per_token

    sizes = Sizes(shape, teacher.architecture, teacher.vocab_size, work.block_length, work.masked)
    return flops_per_token(sizes, work.loss, online=online)


def teacher_flops(teacher: TeacherShape, work: Work) -> float:
    """Returns the FLOP of the teacher's forward pass over one token, for targets that are kept; 0 where the loss needs none."""
    passes = len(work.loss.teacher_inputs)
    return 2.0 * passes * teacher.architecture.operations(work.block_length) / work.block_length


def _row(amount: float, beside: Sequence[float], device: DeviceConfig, job: str, fleet: FleetConfig) -> dict[str, Any]:
    count = fleet.search_devices if job == "search" else fleet.distill_devices
    lost = [fleet.engine_efficiency] * 3 if job == "search" else fleet.distill_efficiency if count > 1 else [1.0] * 3
    rate = device.peak_teraflops * 1e12 * 3600.0
    # The fastest is the cheapest: low ends go with high utilisation and little beside.
    fastest = list(zip(reversed(device.utilisation), beside, reversed(lost), strict=True))
    hours = [(amount / (rate * used) + more) / kept for used, more, kept in fastest]
    return {
        "device_hours": hours,
        "devices": count,
        "hours": [each / count for each in hours],
        "price": [each * price for each, price in zip(hours, device.price, strict=True)],
    }
