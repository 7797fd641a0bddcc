"""More workers on the same study, as processes of this machine: the same command again, with a log of its own each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from hydra.core.hydra_config import HydraConfig

from bort.files import without_links
from bort.runtime_config import ImplConfig

from ..app.overrides import quoted
from .processes import command_line, stop
from .stage import Run


def share(impl: ImplConfig) -> ImplConfig:
    """Returns ``impl`` with a worker's share of the processors, where more than one works and no number was asked for."""
    if impl.workers == 1 or impl.threads is not None:
        return impl
    return replace(impl, threads=max(1, len(os.sched_getaffinity(0)) // impl.workers))


def visible_gpus() -> list[str]:
    """Returns the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; none where there is none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    # Counted without a driver's context, so that workers may still be given a GPU each.
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def gpu_of(worker: int, impl: ImplConfig, gpus: Sequence[str]) -> dict[str, str]:
    """Returns the environment that gives a worker one of the GPUs, in turn; none where processors are used.

    Args:
        worker: Its number; the process that starts the others is 0 and uses the first one, as it is.
        impl: How the stage is carried out.
        gpus: The GPUs at hand.
    """
    if impl.device not in ("auto", "cuda") or impl.workers == 1 or not gpus:
        return {}
    return {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]}


def for_candidate(impl: ImplConfig) -> ImplConfig:
    """Returns ``impl`` for the training of one candidate of a search: one device, and its share of the processors."""
    alone = replace(impl, devices=1, nodes=1, strategy="auto")
    if impl.engine == "ray":
        return replace(alone, threads=impl.threads or max(1, int(impl.ray.processors)))
    return share(alone)


@contextmanager
def beside(run: Run, stage: str) -> Iterator[None]:
    """Keeps ``impl.workers`` − 1 further workers at a stage for as long as the block lasts.

    Each writes what it says to ``worker-<number>.log`` in the stage's folder. One that fails leaves its candidate to the
    others; the user is told where to read why.
    """
    impl = run.config.impl
    gpus = visible_gpus() if impl.workers > 1 and impl.device in ("auto", "cuda") else []
    others = [_start(run, stage, number, gpu_of(number, impl, gpus)) for number in range(1, impl.workers)]
    try:
        yield
        for number, process in enumerate(others, 1):
            # The study is done: what is left to them is to deliver what they recorded.
            if process.wait():
                run.observer.warn(f"Worker {number} ended early; {run.directory / _log(number)} says why.")
    finally:
        stop(others)


def _log(number: int) -> str:
    return f"worker-{number}.log"


def _start(run: Run, stage: str, number: int, gpu: Mapping[str, str]) -> subprocess.Popen[bytes]:
    impl, hydra = share(run.config.impl), HydraConfig.get()
    settings = {"impl.workers": 1, "impl.threads": impl.threads, "root": run.config.root, "hydra.run.dir": run.directory}
    overrides = [f"{key}={quoted(str(value))}" for key, value in settings.items()]
    command = command_line(stage, [*hydra.overrides.task, *overrides])
    run.directory.mkdir(parents=True, exist_ok=True)
    with open(run.directory / _log(number), "ab", opener=without_links) as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **gpu})
