"""Soft targets: the teacher's outputs for a corpus, computed once, kept on disk, and read back by every candidate.

Neither kind keeps logits. ``representation`` keeps the last layer's input and output at every position, from which queries,
keys and values come back by one product each. ``logits`` keeps the head's transformed hidden state at the masked positions, from
which the logits come back by one product: a few hundred numbers a position instead of one for each entry of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.corpus.config import MaskingConfig
from bort.corpus.store import Blocks, Corpus
from bort.errors import BortError, ConfigurationError, RecordError
from bort.files import file_digest, read_json
from bort.teacher.config import TargetConfig
from bort.teacher.model import TargetBatch, Teacher, check_vocabulary

RECORD = "targets.json"
SCHEMA = 1
#: The arrays of each kind.
ARRAYS = {"representation": ("hidden", "layer_input"), "logits": ("transformed",)}


def targets_identity(teacher: Teacher, corpus: Corpus, masking: MaskingConfig, config: TargetConfig) -> dict[str, Any]:
    """Returns what soft targets are bound to: pass it to :meth:`Targets.open` as ``expected``.

    The masks count only for ``logits``: representations are those of the unmasked block.

    Raises:
        BortError: Teacher, corpus and settings do not go together.
    """
    config.check()
    check_vocabulary(teacher, corpus.vocab_size, corpus.tokenizer_digest)
    if corpus.block_length > teacher.positions:
        raise ConfigurationError(
            "corpus.block_length", corpus.block_length, f"the teacher {teacher.path} reads at most {teacher.positions} tokens"
        )
    identity: dict[str, Any] = {
        "teacher": teacher.digest,
        "tokenizer": teacher.tokenizer_digest,
        "corpus": corpus.digest,
        "kind": config.kind,
        "dtype": config.dtype,
        "blocks": _wanted(config.blocks, corpus.train, "targets.blocks", "train"),
        "heldout_blocks": _wanted(config.heldout_blocks, corpus.heldout, "targets.heldout_blocks", "held-out"),
    }
    if config.kind == "logits":
        teacher.transform(torch.zeros(1, teacher.architecture.hidden, device=teacher.device))
        masking.check()
        identity |= {"epochs": config.epochs, **{f"masking.{key}": value for key, value in asdict(masking).items()}}
    return identity


def predicted_bytes(identity: Mapping[str, Any], corpus: Corpus, masking: MaskingConfig, hidden: int) -> int:
    """Returns the size on disk of the soft targets of ``identity``, for a teacher of hidden size ``hidden``."""
    blocks = identity["blocks"] * identity.get("epochs", 1) + identity["heldout_blocks"]
    numbers = rows_per_block(identity["kind"], corpus, masking) * hidden * len(ARRAYS[identity["kind"]])
    return int(blocks * numbers * np.dtype(identity["dtype"]).itemsize)


class Targets:
    """Soft targets that were built, opened for reading.

    Attributes:
        kind: ``representation`` or ``logits``.
        epochs: How many epochs of masks are covered; 0 for representations, which serve any epoch.
        blocks: How many train blocks are covered, from the first.
        heldout_blocks: How many held-out blocks are covered, from the first.
        digest: Identifies content and inputs.
        record: All of ``targets.json``.
    """

    def __init__(self, directory: Path, record: dict[str, Any]) -> None:
        self.directory, self.record = directory, record
        identity = record["identity"]
        self.kind: str = identity["kind"]
        self.epochs: int = identity.get("epochs", 0)
        self.blocks: int = identity["blocks"]
        self.heldout_blocks: int = identity["heldout_blocks"]
        self.digest: str = record["digest"]
        self._maps: dict[str, NDArray[Any]] = {}

    @classmethod
    def open(cls, directory: Path | str, expected: Mapping[str, Any], *, verify: bool = False) -> Targets:
        """Opens the soft targets in ``directory``.

        Args:
            directory: Where :func:`build_targets` wrote them.
            expected: What they must be bound to, as :func:`targets_identity` gives it; only the keys given are compared.
            verify: Whether every shard is read once and compared with its digest.

        Raises:
            RecordError: There are none, they are bound to something else (the difference is named), or a file is damaged.
        """
        directory = Path(directory)
        if not (directory / RECORD).exists():
            raise RecordError(f"{directory} holds no finished soft targets; make them with 'bort teacher'.")
        record = read_json(directory / RECORD)
        if record.get("schema", 0) > SCHEMA:
            raise RecordError(f"{directory / RECORD} was written by a newer version of Bort (schema {record['schema']}).")
        refuse_difference(directory, record["identity"], expected)
        targets = cls(directory, record)
        for name, digests in record["shards"].items():
            for key, wanted in digests.items():
                path = targets._path(name, key)
                targets._map(name, key)
                if verify and file_digest(path) != wanted:
                    raise RecordError(f"{path} does not match its digest; remove {directory} and make them again.")
        return targets

    def count(self, split: str) -> int:
        """Returns how many blocks of ``split`` are covered, from the first."""
        return self.blocks if split == "train" else self.heldout_blocks

    def batch(self, split: str, indices: NDArray[np.int64], epochs: NDArray[np.int64] | None = None) -> TargetBatch:
        """Returns the soft targets of blocks.

        Args:
            split: ``train`` or ``heldout``.
            indices: Block numbers, [B].
            epochs: For ``logits`` of ``train``, the epoch of each block's masks, [B]; held-out blocks have the masks of epoch 0.

        Raises:
            BortError: A block or an epoch is not covered.
        """
        indices = np.asarray(indices, dtype=np.int64)
        covered = self.count(split)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < covered:
            raise BortError(
                f"The soft targets in {self.directory} cover {covered} {split} blocks; block {int(indices.max())} was asked for."
            )
        epochs = np.zeros_like(indices) if epochs is None or not self.epochs or split == "heldout" else np.asarray(epochs)
        if self.epochs and len(epochs) and int(epochs.max()) >= self.epochs:
            raise BortError(
                f"The soft targets in {self.directory} cover {self.epochs} epoch(s) of masks; epoch {int(epochs.max())} was "
                "asked for; they are counted from 0."
            )
        size = self.record["shard_blocks"]
        shards, rows = np.divmod(indices, size)
        values: dict[str, Tensor] = {}
        for key in ARRAYS[self.kind]:
            out = np.empty((len(indices), self.record["rows"], self.record["hidden"]), dtype=np.float32)
            for epoch, shard in set(zip(epochs.tolist(), shards.tolist(), strict=True)):
                chosen = np.flatnonzero((epochs == epoch) & (shards == shard))
                out[chosen] = self._map(shard_name(split, epoch, shard), key)[rows[chosen]]
            values[key] = torch.from_numpy(out)
        return TargetBatch(**values)

    def _path(self, name: str, key: str) -> Path:
        return self.directory / shard_file(name, key)

    def _map(self, name: str, key: str) -> NDArray[Any]:
        path = self._path(name, key)
        if path.name not in self._maps:
            try:
                self._maps[path.name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise RecordError(f"{path} cannot be read ({error}); remove {self.directory} and make them again.") from error
        return self._maps[path.name]


def refuse_difference(directory: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises an error that names what the soft targets in ``directory`` were made for and what was asked for."""
    differences = [
        f"{key}: {_short(there.get(key))} there, {_short(value)} here" for key, value in here.items() if there.get(key) != value
    ]
    if differences:
        raise RecordError(
            f"{directory} holds soft targets for something else ({'; '.join(differences)}); choose another folder or remove it."
        )


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)


def _wanted(count: int | None, blocks: Blocks, key: str, split: str) -> int:
    if count is not None and count > len(blocks):
        raise ConfigurationError(key, count, f"the corpus has {len(blocks)} {split} blocks")
    return len(blocks) if count is None else count


def shard_name(split: str, epoch: int, shard: int) -> str:
    """Returns the name of shard number ``shard`` of a split's epoch."""
    return f"{split}-{epoch:04d}-{shard:06d}"


def shard_file(name: str, key: str) -> str:
    """Returns the file name of an array of the shard ``name``."""
    return f"{name}.{key}.npy"


def rows_per_block(kind: str, corpus: Corpus, masking: MaskingConfig) -> int:
    """Returns how many hidden states are kept of a block: S of the whole block, or K at its masked positions."""
    return masking.positions(corpus.block_length) if kind == "logits" else corpus.block_length
