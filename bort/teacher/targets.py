"""Soft targets: the teacher's outputs for a corpus, computed once, kept on disk, and read back by every candidate.

Neither kind keeps logits. ``representation`` keeps the last layer's input and output at every position, from which queries,
keys and values come back by one product each. ``logits`` keeps the head's transformed hidden state at the masked positions, from
which the logits come back by one product: a few hundred numbers a position instead of one for each entry of the vocabulary.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.corpus.config import MaskingConfig
from bort.corpus.masking import mask_blocks
from bort.corpus.store import Blocks, Corpus
from bort.errors import BortError, ConfigurationError, RecordError
from bort.events import Observer, Quiet
from bort.files import atomic_path, digest, file_digest, read_json, write_json
from bort.teacher.config import TargetConfig
from bort.teacher.model import Teacher, check_vocabulary

RECORD = "targets.json"
PROGRESS = "progress.json"
SCHEMA = 1
#: Bytes of a shard, about: a kill loses at most one.
SHARD_BYTES = 64 << 20
_ARRAYS = {"representation": ("hidden", "layer_input"), "logits": ("transformed",)}


@dataclass(frozen=True)
class TargetBatch:
    """The soft targets of a batch, float32.

    Args:
        hidden: The teacher's last hidden state, [B, S, H]; kind ``representation``.
        layer_input: The input of the teacher's last layer, [B, S, H]; kind ``representation``.
        transformed: The head's transformed hidden state at the masked positions, [B, K, H]; kind ``logits``.
    """

    hidden: Tensor | None = None
    layer_input: Tensor | None = None
    transformed: Tensor | None = None


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
    return (
        int(blocks)
        * _rows(identity["kind"], corpus, masking)
        * hidden
        * len(_ARRAYS[identity["kind"]])
        * _itemsize(identity["dtype"])
    )


def build_targets(
    teacher: Teacher,
    corpus: Corpus,
    masking: MaskingConfig,
    config: TargetConfig,
    directory: Path | str,
    *,
    batch_size: int = 32,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Runs the teacher over the corpus and keeps its soft targets in ``directory``.

    Args:
        teacher: The teacher.
        corpus: The corpus, tokenised by this teacher's tokenizer.
        masking: The masks, which must be those of the training; used by ``logits`` alone.
        config: What is kept, and for how many blocks.
        directory: Where; shards that an interrupted call with the same inputs left there are kept, the rest is computed.
        batch_size: Blocks of one forward pass; changes only the speed.
        observer: Hears of progress.

    Returns:
        The record, as in ``targets.json``: ``identity``, ``digest``, ``bytes``, ``tokens``, ``seconds`` …

    Raises:
        BortError: Inputs do not go together, or the disk has too little room.
        RecordError: ``directory`` holds soft targets of other inputs.
    """
    observer = observer or Quiet()
    directory = Path(directory)
    started = time.perf_counter(), time.process_time()
    identity = targets_identity(teacher, corpus, masking, config)
    hidden = teacher.architecture.hidden
    if (directory / RECORD).exists():
        return Targets.open(directory, identity).record
    rows = _rows(config.kind, corpus, masking)
    shard_blocks = max(1, SHARD_BYTES // (rows * hidden * _itemsize(config.dtype)))
    layout = {"identity": identity, "rows": rows, "hidden": hidden, "shard_blocks": shard_blocks}
    progress = directory / PROGRESS
    shards: dict[str, dict[str, str]] = {}
    earlier = 0.0, 0.0
    if progress.exists():
        left = read_json(progress)
        if left["layout"] != layout:
            _refuse(directory, left["layout"]["identity"], identity)
        shards, earlier = left["shards"], (left["seconds"], left["processor_seconds"])
        _drop_broken(directory, shards, observer)
    needed = predicted_bytes(identity, corpus, masking, hidden)
    directory.mkdir(parents=True, exist_ok=True)
    missing = needed - sum(file.stat().st_size for file in directory.glob("*.npy"))
    free = shutil.disk_usage(directory).free
    if missing > free:
        raise BortError(
            f"The soft targets need {missing / 1e9:.1f} GB more at {directory}, where {free / 1e9:.1f} GB are free: "
            "make room, or choose a smaller targets.blocks."
        )
    work = _shards(identity, shard_blocks)
    total = sum(last - first for _, _, _, first, last in work)
    done = 0
    for name, blocks, epoch, first, last in [(n, getattr(corpus, s), e, a, b) for n, s, e, a, b in work]:
        if name not in shards:
            arrays = _empty(config, last - first, rows, hidden)
            for start in range(first, last, batch_size):
                indices = np.arange(start, min(start + batch_size, last))
                for key, values in _outputs(teacher, corpus, blocks, masking, config, indices, epoch).items():
                    arrays[key][start - first : start - first + len(indices)] = values
                note = f"{corpus.block_length * (done + start - first + len(indices))} tokens"
                observer.progress("soft targets", done + start - first + len(indices), total, note)
            shards[name] = {key: _write_shard(directory / f"{name}.{key}.npy", values) for key, values in arrays.items()}
            spent = earlier[0] + time.perf_counter() - started[0], earlier[1] + time.process_time() - started[1]
            write_json(progress, {"layout": layout, "shards": shards, "seconds": spent[0], "processor_seconds": spent[1]})
        done += last - first
    record = {
        "schema": SCHEMA,
        **layout,
        "shards": shards,
        "digest": digest({"identity": identity, "shards": shards}),
        "bytes": sum(file.stat().st_size for file in directory.glob("*.npy")),
        "predicted_bytes": needed,
        "tokens": total * corpus.block_length,
        "seconds": earlier[0] + time.perf_counter() - started[0],
        "processor_seconds": earlier[1] + time.process_time() - started[1],
    }
    write_json(directory / RECORD, record)
    progress.unlink(missing_ok=True)
    return record


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
        _refuse(directory, record["identity"], expected)
        targets = cls(directory, record)
        for name, digests in record["shards"].items():
            for key, wanted in digests.items():
                path = targets._path(name, key)
                targets._map(name, key)
                if verify and file_digest(path) != wanted:
                    raise RecordError(f"{path} does not match its digest; remove {directory / RECORD} and it is made again.")
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
        for key in _ARRAYS[self.kind]:
            out = np.empty((len(indices), self.record["rows"], self.record["hidden"]), dtype=np.float32)
            for epoch, shard in set(zip(epochs.tolist(), shards.tolist(), strict=True)):
                chosen = np.flatnonzero((epochs == epoch) & (shards == shard))
                out[chosen] = self._map(_name(split, epoch, shard), key)[rows[chosen]]
            values[key] = torch.from_numpy(out)
        return TargetBatch(**values)

    def _path(self, name: str, key: str) -> Path:
        return self.directory / f"{name}.{key}.npy"

    def _map(self, name: str, key: str) -> NDArray[Any]:
        path = self._path(name, key)
        if path.name not in self._maps:
            try:
                self._maps[path.name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise RecordError(
                    f"{path} cannot be read ({error}); remove {self.directory / RECORD} and it is made again."
                ) from error
        return self._maps[path.name]


def _outputs(
    teacher: Teacher,
    corpus: Corpus,
    blocks: Blocks,
    masking: MaskingConfig,
    config: TargetConfig,
    indices: NDArray[np.int64],
    epoch: int,
) -> dict[str, NDArray[Any]]:
    rows = blocks[indices]
    if config.kind == "representation":
        hidden, layer_input = teacher.represent(torch.from_numpy(rows))
        outputs = {"hidden": hidden, "layer_input": layer_input}
    else:
        masked = mask_blocks(rows, indices, epoch, masking, corpus.special, corpus.vocab_size)
        hidden, _ = teacher.represent(torch.from_numpy(masked.input_ids))
        positions = torch.from_numpy(masked.positions).to(hidden.device)[..., None].expand(-1, -1, hidden.shape[-1])
        with torch.inference_mode():
            outputs = {"transformed": teacher.transform(hidden.gather(1, positions))}
    dtype = torch.float16 if config.dtype == "float16" else torch.float32
    stored = {key: value.to(dtype) for key, value in outputs.items()}
    for key, value in stored.items():
        if not bool(torch.isfinite(value).all()):
            raise ConfigurationError("targets.dtype", config.dtype, f"the teacher's {key} exceeds its range; use float32")
    return {key: value.cpu().numpy() for key, value in stored.items()}


def _write_shard(path: Path, values: NDArray[Any]) -> str:
    with atomic_path(path) as temporary:
        np.save(temporary, values, allow_pickle=False)
    return file_digest(path)


def _drop_broken(directory: Path, shards: dict[str, dict[str, str]], observer: Observer) -> None:
    """Forgets shards that are missing or damaged, so that they are computed again."""
    for name in list(shards):
        for key, wanted in shards[name].items():
            path = directory / f"{name}.{key}.npy"
            if not path.exists() or file_digest(path) != wanted:
                observer.warn(f"{path} is damaged; it is computed again.")
                del shards[name]
                break


def _refuse(directory: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
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


def _shards(identity: Mapping[str, Any], size: int) -> list[tuple[str, str, int, int, int]]:
    """Returns every shard as (name, split, epoch, first block, last block + 1)."""
    shards = []
    for split, count, epochs in (
        ("heldout", identity["heldout_blocks"], 1),
        ("train", identity["blocks"], identity.get("epochs", 1)),
    ):
        for epoch in range(epochs):
            shards += [(_name(split, epoch, at // size), split, epoch, at, min(at + size, count)) for at in range(0, count, size)]
    return shards


def _name(split: str, epoch: int, shard: int) -> str:
    return f"{split}-{epoch:04d}-{shard:06d}"


def _rows(kind: str, corpus: Corpus, masking: MaskingConfig) -> int:
    return masking.positions(corpus.block_length) if kind == "logits" else corpus.block_length


def _itemsize(dtype: str) -> int:
    return int(np.dtype(dtype).itemsize)


def _empty(config: TargetConfig, blocks: int, rows: int, hidden: int) -> dict[str, NDArray[Any]]:
    return {key: np.empty((blocks, rows, hidden), dtype=config.dtype) for key in _ARRAYS[config.kind]}
