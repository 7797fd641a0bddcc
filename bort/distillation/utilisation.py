"""What a training could do at most on its machine, and what it took: operations, peak rates, peak memory."""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path

import torch

from bort.distillation.terms import LossConfig, Sizes

#: Dense bf16 matrix products, in FLOP/s, as the makers' data sheets have them, by a part of the device's name. For float32 the
#: rate without tensor cores: torch uses none for it unless told to.
GPU_PEAKS: dict[str, dict[str, float]] = {
    "H200": {"bf16": 989e12, "32": 67e12},
    "H100 PCIe": {"bf16": 756e12, "32": 51e12},
    "H100": {"bf16": 989e12, "32": 67e12},
    "A100": {"bf16": 312e12, "32": 19.5e12},
    "L40S": {"bf16": 362e12, "32": 91.6e12},
    "L4": {"bf16": 121e12, "32": 30.3e12},
    "A10": {"bf16": 125e12, "32": 31.2e12},
    "RTX 4090": {"bf16": 165e12, "32": 82.6e12},
    "RTX 3090": {"bf16": 71e12, "32": 35.6e12},
}
#: Seconds that one product of the measured peak shall take at least, so that the clock can be trusted.
_LONG_ENOUGH = 0.02
_LARGEST = 2048


def flops_per_token(sizes: Sizes, loss: LossConfig, *, online: bool) -> float:
    """Return the floating-point operations of a training step per token of its blocks.

    Matrix products alone are counted, two operations for each multiply-add, and only those that the loss needs: no
    recomputation, no masked-LM head at other positions. The student counts three times, once forward and twice
    backward; the teacher once.

    Args:
        sizes: Shapes and lengths.
        loss: The terms.
        online: Whether the teacher runs at every step.
    """
    length, own, theirs = sizes.block_length, sizes.student, sizes.teacher
    student, teacher = len(loss.inputs) * own.operations(length), 0
    if loss.masked:
        student += sizes.masked * (own.hidden**2 + own.hidden * sizes.vocabulary)
    if loss.projects:
        student += length * own.hidden * theirs.hidden
    for term in loss.active.values():
        operations = term.operations(sizes)
        student, teacher = student + operations[0], teacher + operations[1]
    if online:
        teacher += len(loss.teacher_inputs) * theirs.operations(length)
        teacher += sizes.masked * theirs.hidden**2 if "masked" in loss.teacher_inputs else 0
    return 2.0 * (3.0 * student + teacher) / length


def peak_flops(device: str, precision: str) -> tuple[float | None, str]:
    """Return the FLOP/s that a device reaches at most, or nothing, and where the number comes from.

    On a processor a square product is measured, which takes a tenth of a second once in a process; a GPU is looked up.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``32`` or ``bf16``.
    """
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
        known = next((rates for part, rates in GPU_PEAKS.items() if part in name), None)
        if known is None:
            return None, f"the peak of {name} is not known"
        return known[precision], f"data sheet of {name}"
    if device != "cpu":
        return None, f"the peak of a device of kind {device} is not known"
    return _processor_peak(torch.get_num_threads(), precision)


@cache
def _processor_peak(threads: int, precision: str) -> tuple[float, str]:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size, rate = 128, 0.0
    while size <= _LARGEST:
        left = torch.ones(size, size, dtype=dtype)
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            left @ left
            seconds.append(time.perf_counter() - started)
        rate = max(rate, 2.0 * size**3 / min(seconds))
        if min(seconds) >= _LONG_ENOUGH:
            break
        size *= 2
    return rate, f"measured: a product of {min(size, _LARGEST)}×{min(size, _LARGEST)} matrices on {threads} thread(s)"


class PeakMemory:
    """Peak memory since this was made: of the process, and of the device where there is one of its own.

    On Linux the process's peak is set back first, so that what was there before does not count but by what is left of it. Elsewhere
    the peak is that of the whole life of the process.

    Args:
        device: The device in use.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            # Not Linux, or not allowed: what the system counted so far stands.
            return

    def process(self) -> int:
        """Return the largest resident size of the process, in bytes."""
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return int(peak) if sys.platform == "darwin" else int(peak) * 1024
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024

    def on_device(self) -> int | None:
        """Return the largest allocation on the device, in bytes; none where the device uses the process's own memory."""
        return int(torch.cuda.max_memory_allocated(self.device)) if self.device.startswith("cuda") else None
