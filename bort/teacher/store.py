"""The soft targets of one kind on disk: arrays by name, cut into shards of blocks, memory-mapped and checksummed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.corpus.config import MaskingConfig
from bort.corpus.dataset import Corpus
from bort.errors import RecordError
from bort.files import file_digest, read_array, read_json, well_formed, whole_number
from bort.record import refuse_difference
from bort.teacher.model import Teacher

STORE = "store.json"
#: Bytes of an array of a shard, about: a kill loses at most one shard, some seconds of a small teacher's work on a processor.
SHARD_BYTES = 16 << 20
#: What a record may name: types that are written here, and numbers that an array of one block can have.
_TYPES = ("float16", "float32", "uint16", "int32")
_MOST = 1 << 40

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How the outputs for a block are kept.

    Args:
        arrays: The shape and the type of each array's part of a block, by name.
        shard_blocks: Blocks of a shard.
    """

    arrays: dict[str, tuple[tuple[int, ...], str]]
    shard_blocks: int

    @property
    def block_bytes(self) -> int:
        """Bytes that a block takes in all arrays."""
        return sum(_bytes(shape, dtype) for shape, dtype in self.arrays.values())

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        arrays = {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in self.arrays.items()}
        return {"arrays": arrays, "shard_blocks": self.shard_blocks}


def layout_of(identity: Mapping[str, Any], teacher: Teacher, corpus: Corpus, masking: MaskingConfig) -> Layout:
    """Returns how soft targets of one kind are laid out.

    Args:
        identity: What they are bound to.
        teacher: Says how wide its outputs are.
        corpus: Says how long a block is.
        masking: Says how many of its positions are masked.
    """
    dtype, hidden = identity["dtype"], teacher.architecture.hidden
    arrays: dict[str, tuple[tuple[int, ...], str]]
    if identity["kind"] == "representation":
        arrays = {"hidden": ((corpus.block_length, hidden), dtype)}
        if teacher.has_relations:
            arrays["layer_input"] = ((corpus.block_length, hidden), dtype)
    else:
        rows = masking.positions(corpus.block_length)
        if identity["form"] == "exact":
            arrays = {"transformed": ((rows, teacher.head_width), dtype)}
        else:
            kept = identity["top_k"] + identity["tail_samples"]
            ids = "uint16" if teacher.vocab_size <= 1 << 16 else "int32"
            arrays = {"ids": ((rows, kept), ids), "values": ((rows, kept), dtype), "summary": ((rows, 4), "float32")}
    return Layout(arrays, max(1, SHARD_BYTES // max(_bytes(*part) for part in arrays.values())))


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _array_of(part: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Returns shape and type of an array as a record has them, refusing what no record of ours would hold."""
    if part["dtype"] not in _TYPES:
        raise ValueError(f"dtype {part['dtype']!r}")
    shape = tuple(whole_number(size, 1) for size in part["shape"])
    if math.prod(shape) > _MOST:
        raise ValueError(f"shape {shape}")
    return shape, np.dtype(part["dtype"])


class Store:
    """Soft targets of one kind, opened for reading.

    Attributes:
        digest: Identifies content and inputs.
    """

    def __init__(self, directory: Path, record: dict[str, Any]) -> None:
        self.directory, self._layout = directory, record["layout"]
        self.digest: str = record["digest"]
        self._maps: dict[str, NDArray[Any]] = {}

    @classmethod
    def open(cls, directory: Path, *, verify: bool = False) -> Store:
        """Opens a folder.

        Args:
            directory: Where it lies.
            verify: Whether every shard is read once and compared with its digest.

        Raises:
            RecordError: A file is missing or damaged.
        """
        record = read_json(directory / STORE)
        with well_formed(directory / STORE, "a record of soft targets"):
            store = cls(directory, record)
            if not 1 <= whole_number(store._layout["shard_blocks"], 1) <= _MOST:
                raise ValueError(f"shard_blocks {store._layout['shard_blocks']}")
            shapes = {key: _array_of(part) for key, part in store._layout["arrays"].items()}
            for name, digests in record["shards"].items():
                for key, wanted in digests.items():
                    path = directory / shard_file(name, key)
                    array = store._map(name, key)
                    whole = (array.shape[1:], array.dtype) == shapes[key] and array.ndim
                    if not whole or (verify and file_digest(path) != wanted):
                        raise RecordError(f"{path} does not match its record; remove {directory.parent} and make them again.")
        return store

    def rows(self, split: str, indices: Integers, epochs: Integers) -> dict[str, Any]:
        """Returns the fields of a :class:`~bort.teacher.model.TargetBatch` for blocks [B] in their epochs [B]."""
        layout = self._layout
        shards, rows = np.divmod(indices, layout["shard_blocks"])
        values: dict[str, Tensor] = {}
        for key, part in layout["arrays"].items():
            whole = np.issubdtype(np.dtype(part["dtype"]), np.integer)
            out = np.empty((len(indices), *part["shape"]), dtype=np.int64 if whole else np.float32)
            for epoch, shard in set(zip(epochs.tolist(), shards.tolist(), strict=True)):
                chosen = np.flatnonzero((epochs == epoch) & (shards == shard))
                name = shard_name(split, epoch, shard)
                try:
                    out[chosen] = self._map(name, key)[rows[chosen]]
                except IndexError as error:
                    path = self.directory / shard_file(name, key)
                    raise RecordError(f"{path} is too short; remove {self.directory.parent} and make them again.") from error
            values[key] = torch.from_numpy(out)
        return values

    def _map(self, name: str, key: str) -> NDArray[Any]:
        path = self.directory / shard_file(name, key)
        if path.name not in self._maps:
            try:
                self._maps[path.name] = read_array(path, mapped=True)
            except ValueError as error:
                raise RecordError(
                    f"{path} cannot be read ({error}); remove {self.directory.parent} and make them again."
                ) from error
        return self._maps[path.name]


def check_identity(directory: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse soft targets made for something else.

    Args:
        directory: Where they lie.
        stored: What they are bound to.
        wanted: What they must be bound to; only the keys given are compared.

    Raises:
        RecordError: Names what differs.
    """
    refuse_difference(directory, "soft targets", {key: stored.get(key) for key in wanted}, wanted)


def shard_name(split: str, epoch: int, shard: int) -> str:
    """Returns the name of shard number ``shard`` of a split's epoch."""
    return f"{split}-{epoch:04d}-{shard:06d}"


def shard_file(name: str, key: str) -> str:
    """Returns the file name of an array of the shard ``name``."""
    return f"{name}.{key}.npy"
