"""Running the teacher over a corpus once and keeping its soft targets; interrupted at any point, it goes on from there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bort.corpus.config import MaskingConfig
from bort.corpus.dataset import Corpus
from bort.corpus.masking import mask_blocks
from bort.errors import BortError, ConfigurationError
from bort.files import atomic_path, digest, file_digest, read_json, write_json
from bort.observer import Observer, Quiet
from bort.randomness import draws, stream_keys, uniform
from bort.teacher.config import TargetConfig
from bort.teacher.model import Teacher
from bort.teacher.sparse import sparsify
from bort.teacher.store import STORE, check_identity, layout_of, shard_file, shard_name
from bort.teacher.targets import RECORD, SCHEMA, check_schema, identity_of_kind, targets_identity

PROGRESS = "progress.json"
BATCH_TOKENS = 4096
#: Keeps the draws of the form ``topk`` apart from those of the masks, which share the seed.
_TAIL_STREAM = 0x7A11


def build_targets(
    teacher: Teacher,
    corpus: Corpus,
    masking: MaskingConfig,
    config: TargetConfig,
    directory: Path | str,
    *,
    batch_size: int | None = None,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Runs the teacher over the corpus and keeps its soft targets in ``directory``, each kind in a folder of its own.

    Args:
        teacher: The teacher.
        corpus: The corpus, tokenised by this teacher's tokenizer.
        masking: The masks, which must be those of the training; used by ``logits`` alone.
        config: What is kept, and for how many blocks.
        directory: Where; shards that an interrupted call with the same inputs left there are kept, the rest is computed.
        batch_size: Blocks of one forward pass; changes only the speed. By default about 4,096 tokens, which fill a processor.
        observer: Hears of progress, of damaged shards, and of a form that the teacher cannot have.

    Returns:
        The record, as in ``targets.json``: ``identity``, ``digest``, ``bytes``, ``predicted_bytes``, ``tokens``, ``seconds`` …

    Raises:
        BortError: Inputs do not go together, or the disk has too little room.
        RecordError: ``directory`` holds soft targets of other inputs.
    """
    observer, directory = observer or Quiet(), Path(directory)
    identity = targets_identity(teacher, corpus, masking, config)
    if identity.get("form", config.form) != config.form:
        observer.warn(
            f"The logits of {teacher.path} do not come from a hidden state by one product; its targets are kept as topk "
            "(targets.form=topk)."
        )
    if (directory / RECORD).exists():
        record = read_json(directory / RECORD)
        check_schema(directory, record)
        check_identity(directory, record["identity"], identity)
    batch_size = batch_size or max(1, BATCH_TOKENS // corpus.block_length)
    builders = [
        _Builder(teacher, corpus, masking, config, directory / kind, identity_of_kind(identity, kind), batch_size, observer)
        for kind in config.kinds
    ]
    _check_room(directory, sum(builder.missing_bytes for builder in builders))
    stores = {builder.identity["kind"]: builder.build() for builder in builders}
    record = {
        "schema": SCHEMA,
        "identity": identity,
        "kinds": list(stores),
        "digest": digest({kind: store["digest"] for kind, store in stores.items()}),
        **{key: sum(store[key] for store in stores.values()) for key in ("bytes", "predicted_bytes", "tokens")},
        **{key: sum(store[key] for store in stores.values()) for key in ("seconds", "processor_seconds")},
    }
    write_json(directory / RECORD, record)
    return record


def _check_room(directory: Path, missing: float) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if missing > free:
        raise BortError(
            f"The soft targets need {missing / 1e9:.1f} GB more at {directory}, where {free / 1e9:.1f} GB are free: "
            "make room, or choose a smaller targets.blocks."
        )


class _Builder:
    """Computes what is missing of the soft targets of one kind.

    Attributes:
        identity: What they are bound to.
        missing_bytes: What is yet to be written.
    """

    def __init__(
        self,
        teacher: Teacher,
        corpus: Corpus,
        masking: MaskingConfig,
        config: TargetConfig,
        directory: Path,
        identity: dict[str, Any],
        batch_size: int,
        observer: Observer,
    ) -> None:
        self.teacher, self.corpus, self.masking, self.config = teacher, corpus, masking, config
        self.directory, self.identity, self.batch_size, self.observer = directory, identity, batch_size, observer
        self.layout = layout_of(identity, teacher, corpus, masking)
        self.work = _shards(identity, self.layout.shard_blocks)
        self.blocks = sum(last - first for *_, first, last in self.work)
        left = self._what_is_left()
        self.record: dict[str, Any] | None = left["record"]
        self.shards: dict[str, dict[str, str]] = left["shards"]
        self.spent: tuple[float, float] = left["seconds"], left["processor_seconds"]
        self.predicted_bytes = self.blocks * self.layout.block_bytes
        there = sum(last - first for name, *_, first, last in self.work if name in self.shards)
        self.missing_bytes = self.predicted_bytes - there * self.layout.block_bytes

    def build(self) -> dict[str, Any]:
        """Returns the record of the whole, computed where it is not there."""
        if self.record is not None:
            return self.record
        self.directory.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter(), time.process_time()
        done = 0
        for name, split, epoch, first, last in self.work:
            if name not in self.shards:
                arrays = self._compute(split, epoch, first, last, done)
                self.shards[name] = {
                    key: _write_shard(self.directory / shard_file(name, key), part) for key, part in arrays.items()
                }
                write_json(self.directory / PROGRESS, self._progress(self.shards, *self._cost(started)))
            done += last - first
        seconds, processor_seconds = self._cost(started)
        files = [self.directory / shard_file(name, key) for name, keys in self.shards.items() for key in keys]
        record = {
            "schema": SCHEMA,
            "identity": self.identity,
            "layout": self.layout.as_dict(),
            "shards": self.shards,
            "digest": digest({"identity": self.identity, "shards": self.shards}),
            "bytes": sum(file.stat().st_size for file in files),
            "predicted_bytes": self.predicted_bytes,
            "tokens": self.blocks * self.corpus.block_length,
            "seconds": seconds,
            "processor_seconds": processor_seconds,
        }
        write_json(self.directory / STORE, record)
        (self.directory / PROGRESS).unlink(missing_ok=True)
        return record

    def _compute(self, split: str, epoch: int, first: int, last: int, done: int) -> dict[str, NDArray[Any]]:
        arrays = {name: np.empty((last - first, *shape), dtype=dtype) for name, (shape, dtype) in self.layout.arrays.items()}
        for start in range(first, last, self.batch_size):
            indices = np.arange(start, min(start + self.batch_size, last))
            for key, values in self._outputs(split, indices, epoch).items():
                arrays[key][start - first : start - first + len(indices)] = values
            there = done + start - first + len(indices)
            self.observer.progress("soft targets", there, self.blocks, f"{self.corpus.block_length * there} tokens")
        return arrays

    def _outputs(self, split: str, indices: NDArray[np.int64], epoch: int) -> dict[str, NDArray[Any]]:
        rows = (self.corpus.train if split == "train" else self.corpus.heldout)[indices]
        if self.identity["kind"] == "representation":
            batch = self.teacher.targets_of(torch.from_numpy(rows))
            outputs = {name: getattr(batch, name) for name in self.layout.arrays}
        else:
            masked = mask_blocks(rows, indices, epoch, self.masking, self.corpus.special, self.corpus.vocab_size, self.corpus.words)
            batch = self.teacher.targets_of(torch.from_numpy(masked.input_ids), torch.from_numpy(masked.positions))
            if self.identity["form"] == "exact":
                outputs = {"transformed": batch.transformed}
            else:
                # One more coordinate than the masks' streams have.
                keys = stream_keys(self.masking.seed, _TAIL_STREAM, epoch, indices)
                uniforms = torch.from_numpy(uniform(draws(keys, 0, masked.labels.shape[1])))
                outputs = self._sparse(self.teacher.logits_of(batch), torch.from_numpy(masked.labels), uniforms)
        return {key: self._stored(key, value) for key, value in outputs.items()}

    def _sparse(self, logits: torch.Tensor, labels: torch.Tensor, uniforms: torch.Tensor) -> dict[str, torch.Tensor]:
        settings = (self.identity[name] for name in ("top_k", "tail_samples", "temperature"))
        kept = sparsify(logits.flatten(0, 1), labels.flatten(), uniforms.flatten(), *settings)
        named = {"ids": kept.ids, "values": kept.values, "summary": kept.summary}
        return {name: value.unflatten(0, tuple(labels.shape)) for name, value in named.items()}

    def _stored(self, key: str, value: torch.Tensor) -> NDArray[Any]:
        dtype = self.layout.arrays[key][1]
        with np.errstate(over="ignore"):
            stored: NDArray[Any] = value.cpu().numpy().astype(dtype)
        if not np.issubdtype(stored.dtype, np.integer) and not np.isfinite(stored).all():
            raise ConfigurationError("targets.dtype", dtype, f"float32, as the teacher's {key} exceeds its range")
        return stored

    def _what_is_left(self) -> dict[str, Any]:
        """Returns what earlier calls left: sound shards with their digests, the cost so far, and the record where all is there.

        Shards that are missing or damaged are forgotten, so that they are computed again.

        Raises:
            RecordError: What is there was made for something else.
        """
        nothing: dict[str, Any] = {"record": None, "shards": {}, "seconds": 0.0, "processor_seconds": 0.0}
        paths = [path for path in (self.directory / STORE, self.directory / PROGRESS) if path.exists()]
        if not paths:
            return nothing
        record = read_json(paths[0])
        check_identity(self.directory, record["identity"], self.identity)
        if record["layout"] != self.layout.as_dict():
            # The same targets in shards of another size, from another version: not worth converting.
            paths[0].unlink()
            return nothing
        sound = {name: keys for name, keys in record["shards"].items() if self._sound(name, keys)}
        complete = paths[0].name == STORE and len(sound) == len(record["shards"])
        cost = {key: record[key] for key in ("seconds", "processor_seconds")}
        if not complete:
            write_json(self.directory / PROGRESS, self._progress(sound, **cost))
            (self.directory / STORE).unlink(missing_ok=True)
        return {"record": record if complete else None, "shards": sound, **cost}

    def _sound(self, name: str, keys: Mapping[str, str]) -> bool:
        for key, wanted in keys.items():
            path = self.directory / shard_file(name, key)
            if not path.exists() or file_digest(path) != wanted:
                self.observer.warn(f"{path} is missing or damaged; it is computed again.")
                return False
        return True

    def _cost(self, started: tuple[float, float]) -> tuple[float, float]:
        return self.spent[0] + time.perf_counter() - started[0], self.spent[1] + time.process_time() - started[1]

    def _progress(self, shards: dict[str, dict[str, str]], seconds: float, processor_seconds: float) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "layout": self.layout.as_dict(),
            "shards": shards,
            "seconds": seconds,
            "processor_seconds": processor_seconds,
        }


def _write_shard(path: Path, values: NDArray[Any]) -> str:
    with atomic_path(path) as temporary:
        np.save(temporary, values, allow_pickle=False)
    return file_digest(path)


def _shards(identity: Mapping[str, Any], size: int) -> list[tuple[str, str, int, int, int]]:
    """Returns every shard as (name, split, epoch, first block, last block + 1)."""
    shards = []
    for split, count, epochs in (
        ("heldout", identity["heldout_blocks"], 1),
        ("train", identity["blocks"], identity.get("epochs", 1)),
    ):
        for epoch in range(epochs):
            starts = range(0, count, size)
            shards += [(shard_name(split, epoch, at // size), split, epoch, at, min(at + size, count)) for at in starts]
    return shards
