"""Carries out ``impl`` settings: device, precision, threads; and keeps Lightning from printing."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bort.errors import BortError, ConfigurationError
from bort.quiet import quiet
from bort.runtime_config import ImplConfig
from bort.settings import check_settings


def resolve_device(impl: ImplConfig) -> str:
    """Returns ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigurationError: The device that is asked for is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if impl.device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[impl.device]:
        raise ConfigurationError("impl.device", impl.device, "auto or cpu, as this machine has none")
    return impl.device


@contextmanager
def carried_out(impl: ImplConfig) -> Iterator[str]:
    """Sets the threads for a while and yields the device; what was set before comes back at the end."""
    check_settings(impl, "impl")
    device, threads = resolve_device(impl), torch.get_num_threads()
    if impl.threads is not None:
        torch.set_num_threads(impl.threads)
    try:
        yield device
    finally:
        torch.set_num_threads(threads)


def make_trainer(impl: ImplConfig, device: str, unused: bool = False) -> Any:
    """Returns a Lightning trainer that runs its batches once and does nothing beside: no logger, no files, no output.

    Args:
        impl: Devices, nodes, strategy and precision.
        device: The kind of device.
        unused: Whether some weights take no part in the loss, which data-parallel strategies have to know.

    Raises:
        ConfigurationError: Several devices were asked for, and there is one process only.
        BortError: Lightning cannot use the devices or the strategy.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer

    strategy = impl.strategy
    if impl.devices * impl.nodes > 1 and unused and strategy in ("auto", "ddp"):
        strategy = "ddp_find_unused_parameters_true"
    try:
        trainer = Trainer(
            accelerator={"cuda": "gpu"}.get(device, device),
            devices=impl.devices,
            num_nodes=impl.nodes,
            strategy=strategy,
            precision="bf16-mixed" if impl.precision == "bf16" else "32-true",
            max_epochs=1,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise BortError(f"impl.devices={impl.devices} with impl.strategy={impl.strategy} cannot be used: {error}") from error
    if impl.devices * impl.nodes > 1 and not trainer.strategy.cluster_environment.creates_processes_externally:
        accepted = "1, unless each device has its own process: start them with torchrun, or use `bort distill`, which does"
        raise ConfigurationError("impl.devices", impl.devices, accepted)
    return trainer


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes and advice, and raise ``KeyboardInterrupt`` on Ctrl-C.

    Lightning answers Ctrl-C with ``sys.exit`` and ignores later ones.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        with quiet("lightning"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
            yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from error
        raise
