"""Settings that change the speed of a result and not the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen

from bort.settings import OneOf

#: Engines that run the workers of a search.
ENGINES = ("local", "ray")


@dataclass
class RayConfig:
    """Resources of a search on a Ray cluster, with ``impl.engine=ray``."""

    address: Annotated[str, MinLen(1)] = "auto"
    """``auto`` for the cluster that this machine has joined, ``local`` for a cluster of this machine alone
    that ends with the search, or ``host:port`` of a cluster's head.
    """

    processors: Annotated[float, Gt(0)] = 1.0
    """Processors for each candidate; also its threads if ``impl.threads`` is ``null``. A candidate's small
    matrices gain little from a second thread.
    """

    memory_megabytes: Annotated[int, Ge(1)] | None = None
    """Memory for each candidate; none is reserved if ``null``."""

    gpus: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """GPUs for each candidate: with 0.25, four candidates share one."""

    retries: Annotated[int, Ge(0)] = 10
    """Number of restarts of a candidate whose process or node was lost."""


@dataclass
class ImplConfig:
    """Settings that change the speed of a result and not the result, beyond rounding."""

    device: Annotated[str, OneOf("auto", "cpu", "cuda", "mps")] = "auto"
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``mps``."""

    devices: Annotated[int, Ge(1)] = 1
    """Devices, or processes on processors, that share each step's blocks; Lightning's ``devices``."""

    nodes: Annotated[int, Ge(1)] = 1
    """Machines that share each step; Lightning's ``num_nodes``. ``devices`` counts those of one machine."""

    strategy: str = "auto"
    """Lightning's strategy of sharing, such as ``ddp``; ``auto`` for Lightning's choice."""

    precision: Annotated[str, OneOf("32", "bf16")] = "32"
    """``32``, or ``bf16`` for mixed precision on hardware with bf16 arithmetic (on a CPU without it 400 times
    slower).
    """

    threads: Annotated[int, Ge(1)] | None = None
    """Processor threads; ``null`` for torch's choice."""

    workers: Annotated[int, Ge(1)] = 1
    """Processes that tokenize, search, or replay searches; with ``engine=ray``, candidates running at once.
    """

    engine: Annotated[str, OneOf(*ENGINES)] = "local"
    """Engine of a search's workers: ``local`` for processes of this machine, ``ray`` for a Ray cluster."""

    ray: RayConfig = field(default_factory=RayConfig)
    """Resources of each candidate on the cluster."""

    compile: bool = False
    """Whether models are compiled; pays off on long runs only."""

    compile_backend: str = "inductor"
    """Backend of ``torch.compile``."""

    cache: bool = True
    """Whether the teacher's outputs are computed once for a corpus and read from disk, rounded to
    ``targets.dtype``; otherwise the teacher runs at every step.
    """

    memory_megabytes: Annotated[int, Ge(0)] = 1024
    """Memory in which a search may cache the teacher's outputs that all its candidates need; 0 caches
    nothing. The relations of 1,600 blocks of 64 tokens from a teacher of width 384 take 450 MiB, and save
    about a seventh of each step.
    """
