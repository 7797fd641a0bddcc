"""What can be set about how work is carried out: it changes the speed of a result, not the result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bort.errors import ConfigurationError

#: Who runs the workers of a search.
ENGINES = ("local", "ray")


@dataclass
class RayConfig:
    """What a search asks of a Ray cluster, with ``impl.engine=ray``.

    Args:
        address: ``auto`` for the cluster that this machine has joined, ``local`` for one of this machine alone that ends with the
            search, or ``host:port`` of a cluster's head.
        processors: Processors for each candidate; where ``impl.threads`` is absent, also its threads.
        memory_megabytes: Memory for each candidate; none is reserved if absent.
        gpus: GPUs for each candidate, 0 to 1: with 0.25, four candidates share one.
        retries: How often a candidate is started again where its process or its node was lost.
    """

    address: str = "auto"
    processors: float = 1.0
    memory_megabytes: int | None = None
    gpus: float = 0.0
    retries: int = 10

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A number is out of its range.
        """
        if not 0 < self.processors < math.inf:
            raise ConfigurationError("impl.ray.processors", self.processors, "a number above 0 is needed")
        if not 0 <= self.gpus <= 1:
            raise ConfigurationError("impl.ray.gpus", self.gpus, "from 0 to 1 are accepted: a candidate takes one device at most")
        if self.memory_megabytes is not None and self.memory_megabytes < 1:
            accepted = "a whole number of at least 1, or null, is needed"
            raise ConfigurationError("impl.ray.memory_megabytes", self.memory_megabytes, accepted)
        if self.retries < 0:
            raise ConfigurationError("impl.ray.retries", self.retries, "a whole number of at least 0 is needed")
        if not self.address:
            raise ConfigurationError("impl.ray.address", self.address, "use auto, local, or host:port")


@dataclass
class ImplConfig:
    """How work is carried out: what changes its speed and not its result, beyond rounding.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``.
        devices: Devices, or processes on processors, that share each step's blocks; Lightning's ``devices``.
        nodes: Machines that do so; Lightning's ``num_nodes``. ``devices`` counts those of one machine.
        strategy: Lightning's name of how they share it, such as ``ddp``; its own choice if ``auto``.
        precision: ``32``, or ``bf16`` for mixed precision on hardware that has it (on a CPU without it 400 times slower).
        threads: Processor threads; torch's own choice if absent.
        workers: Processes that tokenise, search, or replay searches; with ``engine=ray``, candidates of a search in hand at once.
        engine: Who runs the workers of a search: ``local``, processes of this machine, or ``ray``, a Ray cluster.
        ray: What each candidate asks of the cluster.
        compile: Whether models are compiled; pays off on long runs only.
        compile_backend: torch's name of what compiles them.
        cache: Whether the teacher's outputs are computed once and kept on disk; otherwise the teacher runs at every step. The kept
            ones are rounded to ``targets.dtype``.
        memory_megabytes: Memory that a search may take to keep what all its candidates need of the teacher; 0 keeps nothing.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32"
    threads: int | None = None
    workers: int = 1
    engine: str = "local"
    ray: RayConfig = field(default_factory=RayConfig)
    compile: bool = False
    compile_backend: str = "inductor"
    cache: bool = True
    memory_megabytes: int = 1024

    def check(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            ConfigurationError: A name is not known or a number is below 1.
        """
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            raise ConfigurationError("impl.device", self.device, "use auto, cpu, cuda or mps")
        if self.precision not in ("32", "bf16"):
            raise ConfigurationError("impl.precision", self.precision, "use 32 or bf16")
        if self.threads is not None and self.threads < 1:
            raise ConfigurationError("impl.threads", self.threads, "a whole number of at least 1, or null, is needed")
        for name in ("workers", "devices", "nodes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"impl.{name}", getattr(self, name), "a whole number of at least 1 is needed")
        if self.engine not in ENGINES:
            raise ConfigurationError("impl.engine", self.engine, f"use {' or '.join(ENGINES)}")
        self.ray.check()
        if self.memory_megabytes < 0:
            raise ConfigurationError("impl.memory_megabytes", self.memory_megabytes, "a whole number of at least 0 is needed")
