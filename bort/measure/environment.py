"""The circumstances of a measurement: processor, instruction sets, load, threads and versions."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

#: Processor flags that decide how fast a matrix product is, as Linux spells them.
_FLAGS = (
    "sse4_2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
_PACKAGES = ("bort", "torch", "transformers", "numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "tokenizers")

#: Share of the machine that other processes may take before a run calls the machine busy.
BUSY = 0.1


def processors() -> int:
    """Returns how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Only Linux knows affinity.
        return os.cpu_count() or 1


def environment(threads: int | None = None) -> dict[str, Any]:
    """Returns what a figure measured on this machine has to be read with.

    Args:
        threads: Threads that the measured code was given, where that is known.
    """
    model, flags = _processor()
    return {
        "processor": model,
        "instruction_sets": flags,
        "processors": processors(),
        "threads": threads,
        "memory_bytes": _memory(),
        "load": load(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(_PACKAGES),
    }


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Returns the installed version of each package that is installed, without importing any."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


class Occupation:
    """Tells what share of the machine's processors other processes took since it was made.

    Uses Linux's ``/proc/stat``; elsewhere the share is None, for nothing is known.
    """

    def __init__(self) -> None:
        self._start = _snapshot()

    def others(self) -> float | None:
        """Returns the share taken by others, from 0 to 1 (1: every processor was busy with them all the time)."""
        end = _snapshot()
        if self._start is None or end is None:
            return None
        wall, busy, own, count = end[0] - self._start[0], end[1] - self._start[1], end[2] - self._start[2], end[3]
        if wall <= 0:
            return None
        return min(1.0, max(0.0, (busy - own) / (wall * count)))


def _snapshot() -> tuple[float, float, float, int] | None:
    """Returns wall time, busy processor seconds of the whole machine, those of this process, and the number of processors."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(field) for field in lines[0].split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    count = sum(1 for line in lines if line.startswith("cpu") and line[3].isdigit())
    return time.perf_counter(), busy, time.process_time(), count


def _processor() -> tuple[str, list[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), []
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    present = set(fields.get("flags", fields.get("Features", "")).split())
    return fields.get("model name") or platform.machine(), [flag for flag in _FLAGS if flag in present]


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def load() -> list[float] | None:
    """Returns the processes that ran or waited over the last 1, 5 and 15 minutes; None where the system does not say."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (OSError, AttributeError):
        return None
