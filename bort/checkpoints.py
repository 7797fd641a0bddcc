"""Checkpoints of a training: one safetensors file each, written atomically, the last two kept, none trusted unread."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bort.errors import RecordError
from bort.files import atomic_path, parse_json
from bort.observer import Observer
from bort.record import refuse_difference

SCHEMA = 1
_NAME = re.compile(r"step-(\d{9})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A training state that was read back whole.

    Args:
        step: Steps done.
        tensors: Weights under ``weights.`` and optimizer state under ``optimizer.``, by parameter name.
        state: Everything else, as JSON values.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run.

    A file holds tensors, and a header of JSON with the state, the run's fingerprint and a checksum over all tensors. Nothing in it
    is ever executed: there is no pickle to load.

    Args:
        directory: Where the files lie.
        fingerprint: Identifies the run's settings; a checkpoint of another run is refused.
        keep: How many of the newest are kept.
    """

    def __init__(self, directory: Path, fingerprint: str, keep: int = 2) -> None:
        self.directory, self.fingerprint, self.keep = directory, fingerprint, keep

    def steps(self) -> list[int]:
        """Returns the steps at which there are checkpoints, ascending; whether they can be read is not looked at."""
        if not self.directory.is_dir():
            return []
        return sorted(int(match[1]) for path in self.directory.iterdir() if (match := _NAME.fullmatch(path.name)))

    def path(self, step: int) -> Path:
        """Returns the file of the checkpoint at ``step``."""
        return self.directory / f"step-{step:09d}.safetensors"

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Writes a checkpoint, then removes all but the newest ones."""
        from safetensors.torch import save_file

        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {
            "schema": str(SCHEMA),
            "fingerprint": self.fingerprint,
            "checksum": str(_checksum(kept)),
            "state": json.dumps(dict(state), allow_nan=False),
        }
        with atomic_path(self.path(step)) as temporary:
            save_file(kept, temporary, metadata=header)
        for old in self.steps()[: -self.keep]:
            self.path(old).unlink(missing_ok=True)

    def load(self, observer: Observer, at_most: int | None = None) -> Checkpoint | None:
        """Returns the newest checkpoint that can be read, or nothing where there is none.

        A damaged file is reported, removed and passed over for the one before it.

        Args:
            observer: Told of damaged files.
            at_most: Later checkpoints are left aside.

        Raises:
            RecordError: A checkpoint belongs to other settings.
        """
        for step in reversed(self.steps()):
            if at_most is not None and step > at_most:
                continue
            try:
                return self._read(step)
            except _DamagedError as error:
                self.path(step).unlink(missing_ok=True)
                earlier = [other for other in self.steps() if other < step]
                remedy = f"going on from step {earlier[-1]}" if earlier else "starting from the beginning"
                observer.warn(f"The checkpoint {self.path(step)} is damaged ({error}); {remedy}.")
        return None

    def clear(self) -> None:
        """Removes all checkpoints."""
        for step in self.steps():
            self.path(step).unlink(missing_ok=True)

    def _read(self, step: int) -> Checkpoint:
        from safetensors import SafetensorError, safe_open

        path = self.path(step)
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                # The copy takes the tensors out of the memory map, so that the file may be removed.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            checksum, state = int(header["checksum"]), parse_json(header["state"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise _DamagedError(str(error) or type(error).__name__) from error
        if checksum != _checksum(tensors):
            raise _DamagedError("its checksum is wrong")
        refuse_difference(path, "a checkpoint", header.get("fingerprint"), self.fingerprint)
        return Checkpoint(step, tensors, state)


class _DamagedError(Exception):
    """A file that is not what was written."""


def training_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the weights of ``module`` and the optimizer's state of each, by parameter name; tied weights come once."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        tensors[f"weights.{name}"] = parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
    return tensors


def restore_weights(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint's weights into ``module``.

    Raises:
        RecordError: The checkpoint's parameters are not the module's.
    """
    parameters = dict(module.named_parameters())
    saved = {name.removeprefix("weights."): value for name, value in checkpoint.tensors.items() if name.startswith("weights.")}
    if {name: value.shape for name, value in saved.items()} != {name: value.shape for name, value in parameters.items()}:
        raise RecordError(f"The checkpoint of step {checkpoint.step} holds the weights of another model.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


def restore_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Gives ``optimizer`` the state that it had for each parameter of ``module``."""
    for name, parameter in module.named_parameters():
        prefix = f"optimizer.{name}."
        state = {key.removeprefix(prefix): value for key, value in checkpoint.tensors.items() if key.startswith(prefix)}
        if state:
            optimizer.state[parameter] = {
                # AdamW's step count lies on the processor unless the optimizer is fused, where it lies with the parameter.
                key: value.to(parameter.device)
                for key, value in state.items()
            }


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        if tensor.numel():
            total = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, total)
    return total
