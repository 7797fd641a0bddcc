"""What can be set about how work is carried out: it changes the speed of a result, not the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen

from bort.settings import OneOf

#: Who runs the workers of a search.
ENGINES = ("local", "ray")


@dataclass
class RayConfig:
    """What a search asks of a Ray cluster, with ``impl.engine=ray``."""

    address: Annotated[str, MinLen(1)] = "auto"
    """``auto`` for the cluster that this machine has joined, ``local`` for one of this machine alone that
    ends with the search, or ``host:port`` of a cluster's head.
    """

    processors: Annotated[float, Gt(0)] = 1.0
    """Processors for each candidate; where ``impl.threads`` is absent, also its threads."""

    memory_megabytes: Annotated[int, Ge(1)] | None = None
    """Memory for each candidate; none is reserved if absent."""

    gpus: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """GPUs for each candidate, 0 to 1: with 0.25, four candidates share one."""

    retries: Annotated[int, Ge(0)] = 10
    """How often a candidate is started again where its process or its node was lost."""


@dataclass
class ImplConfig:
    """How work is carried out: what changes its speed and not its result, beyond rounding."""

    device: Annotated[str, OneOf("auto", "cpu", "cuda", "mps")] = "auto"
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``."""

    devices: Annotated[int, Ge(1)] = 1
    """Devices, or processes on processors, that share each step's blocks; Lightning's ``devices``."""

    nodes: Annotated[int, Ge(1)] = 1
    """Machines that do so; Lightning's ``num_nodes``. ``devices`` counts those of one machine."""

    strategy: str = "auto"
    """Lightning's name of how they share it, such as ``ddp``; its own choice if ``auto``."""

    precision: Annotated[str, OneOf("32", "bf16")] = "32"
    """``32``, or ``bf16`` for mixed precision on hardware that has it (on a CPU without it 400 times slower).
    """

    threads: Annotated[int, Ge(1)] | None = None
    """Processor threads; torch's own choice if absent."""

    workers: Annotated[int, Ge(1)] = 1
    """Processes that tokenise, search, or replay searches; with ``engine=ray``, candidates of a search in
    hand at once.
    """

    engine: Annotated[str, OneOf(*ENGINES)] = "local"
    """Who runs the workers of a search: ``local``, processes of this machine, or ``ray``, a Ray cluster."""

    ray: RayConfig = field(default_factory=RayConfig)
    """What each candidate asks of the cluster."""

    compile: bool = False
    """Whether models are compiled; pays off on long runs only."""

    compile_backend: str = "inductor"
    """torch's name of what compiles them."""

    cache: bool = True
    """Whether the teacher's outputs are computed once and kept on disk; otherwise the teacher runs at every
    step. The kept ones are rounded to ``targets.dtype``.
    """

    memory_megabytes: Annotated[int, Ge(0)] = 1024
    """Memory that a search may take to keep what all its candidates need of the teacher; 0 keeps nothing."""
