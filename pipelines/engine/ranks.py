"""The processes that share a training: one for each device. The first of them does what a stage does; the others only train."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bort.errors import BortError

from .processes import command_line

#: Where launchers say which of all processes this one is: torchrun, Slurm, and what starts processes on one machine alone.
_NUMBERS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
_SECONDS_TO_END = 60


def follows() -> bool:
    """Whether this process only helps another one to train."""
    return int(next((os.environ[name] for name in _NUMBERS if name in os.environ), "0")) > 0


@contextmanager
def companions(stage: str, devices: int, directory: Path) -> Iterator[None]:
    """Starts this command once more for every further device of this machine, for as long as the block lasts.

    Nothing is started where a launcher such as torchrun or srun has started all processes already.

    Args:
        stage: The stage that trains.
        devices: Devices of this machine.
        directory: Where the stage writes.

    Raises:
        BortError: Another process ended with an error.
    """
    if devices == 1 or "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        yield
        return
    from hydra.core.hydra_config import HydraConfig

    from ..app.overrides import quoted

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    own, before = ("RANK", "LOCAL_RANK"), dict(os.environ)
    # The command line of this run, or of this job of a sweep.
    overrides = [*HydraConfig.get().overrides.task, f"hydra.run.dir={quoted(str(directory))}"]
    command = command_line(stage, overrides)
    others = [
        subprocess.Popen(command, env=before | shared | dict.fromkeys(own, str(rank)), stdout=subprocess.DEVNULL)
        for rank in range(1, devices)
    ]
    os.environ |= shared | dict.fromkeys(own, "0")
    try:
        yield
        for other in others:
            with suppress(subprocess.TimeoutExpired):
                other.wait(_SECONDS_TO_END)
    finally:
        for name in (*shared, *own):
            os.environ.pop(name, None)
            os.environ |= {name: before[name]} if name in before else {}
        for other in others:
            other.kill()
            other.wait()
    failed = [other.returncode for other in others if other.returncode]
    if failed:
        raise BortError(f"{len(failed)} of the {devices} processes that share the training ended with status {failed[0]}.")
