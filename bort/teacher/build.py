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
from bort.corpus.masking import mask_blocks
from bort.corpus.store import Corpus
from bort.errors import BortError, ConfigurationError
from bort.events import Observer, Quiet
from bort.files import atomic_path, digest, file_digest, read_json, write_json
from bort.teacher.config import TargetConfig
from bort.teacher.model import Teacher
from bort.teacher.targets import (
    ARRAYS,
    RECORD,
    SCHEMA,
    predicted_bytes,
    refuse_difference,
    rows_per_block,
    shard_file,
    shard_name,
    targets_identity,
)

PROGRESS = "progress.json"
#: Bytes of an array of a shard, about: a kill loses at most one shard, some seconds of a small teacher's work on a processor.
SHARD_BYTES = 16 << 20
BATCH_TOKENS = 4096


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
    """Runs the teacher over the corpus and keeps its soft targets in ``directory``.

    Args:
        teacher: The teacher.
        corpus: The corpus, tokenised by this teacher's tokenizer.
        masking: The masks, which must be those of the training; used by ``logits`` alone.
        config: What is kept, and for how many blocks.
        directory: Where; shards that an interrupted call with the same inputs left there are kept, the rest is computed.
        batch_size: Blocks of one forward pass; changes only the speed. By default about 4,096 tokens, which fill a processor.
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
    rows = rows_per_block(config.kind, corpus, masking)
    shard_blocks = max(1, SHARD_BYTES // (rows * hidden * np.dtype(config.dtype).itemsize))
    layout = {"identity": identity, "rows": rows, "hidden": hidden, "shard_blocks": shard_blocks}
    left = _what_is_left(directory, layout, observer)
    if left["complete"]:
        return dict(left["record"])
    shards, earlier = left["shards"], (left["seconds"], left["processor_seconds"])
    batch_size = batch_size or max(1, BATCH_TOKENS // corpus.block_length)
    needed = predicted_bytes(identity, corpus, masking, hidden)
    directory.mkdir(parents=True, exist_ok=True)
    work = _shards(identity, shard_blocks)
    missing = needed * (1.0 - sum(name in shards for name, *_ in work) / len(work))
    free = shutil.disk_usage(directory).free
    if missing > free:
        raise BortError(
            f"The soft targets need {missing / 1e9:.1f} GB more at {directory}, where {free / 1e9:.1f} GB are free: "
            "make room, or choose a smaller targets.blocks."
        )
    total = sum(last - first for _, _, _, first, last in work)
    done = 0
    for name, split, epoch, first, last in work:
        if name not in shards:
            arrays = _empty(config, last - first, rows, hidden)
            for start in range(first, last, batch_size):
                indices = np.arange(start, min(start + batch_size, last))
                for key, values in _outputs(teacher, corpus, split, masking, config, indices, epoch).items():
                    arrays[key][start - first : start - first + len(indices)] = values
                note = f"{corpus.block_length * (done + start - first + len(indices))} tokens"
                observer.progress("soft targets", done + start - first + len(indices), total, note)
            shards[name] = {key: _write_shard(directory / shard_file(name, key), values) for key, values in arrays.items()}
            spent = earlier[0] + time.perf_counter() - started[0], earlier[1] + time.process_time() - started[1]
            write_json(
                directory / PROGRESS, {"layout": layout, "shards": shards, "seconds": spent[0], "processor_seconds": spent[1]}
            )
        done += last - first
    record = {
        "schema": SCHEMA,
        **layout,
        "shards": shards,
        "digest": digest({"identity": identity, "shards": shards}),
        "bytes": sum((directory / shard_file(name, key)).stat().st_size for name, keys in shards.items() for key in keys),
        "predicted_bytes": needed,
        "tokens": total * corpus.block_length,
        "seconds": earlier[0] + time.perf_counter() - started[0],
        "processor_seconds": earlier[1] + time.process_time() - started[1],
    }
    write_json(directory / RECORD, record)
    (directory / PROGRESS).unlink(missing_ok=True)
    return record


def _what_is_left(directory: Path, layout: Mapping[str, Any], observer: Observer) -> dict[str, Any]:
    """Returns what earlier calls left: sound shards with their digests, the cost so far, and the record where all is there.

    Shards that are missing or damaged are forgotten, so that they are computed again.

    Raises:
        RecordError: What is there was made for something else.
    """
    nothing: dict[str, Any] = {"complete": False, "shards": {}, "seconds": 0.0, "processor_seconds": 0.0}
    paths = [path for path in (directory / RECORD, directory / PROGRESS) if path.exists()]
    if not paths:
        return nothing
    record = read_json(paths[0])
    there = record if paths[0].name == RECORD else record["layout"]
    refuse_difference(directory, there["identity"], layout["identity"])
    if any(there[key] != value for key, value in layout.items()):
        # The same targets in shards of another size, from another version: not worth converting.
        paths[0].unlink()
        return nothing
    sound = {name: keys for name, keys in record["shards"].items() if _sound(directory, name, keys, observer)}
    complete = paths[0].name == RECORD and len(sound) == len(record["shards"])
    cost = {key: record[key] for key in ("seconds", "processor_seconds")}
    if not complete:
        write_json(directory / PROGRESS, {"layout": dict(layout), "shards": sound, **cost})
        (directory / RECORD).unlink(missing_ok=True)
    return {"complete": complete, "record": record, "shards": sound, **cost}


def _sound(directory: Path, name: str, keys: Mapping[str, str], observer: Observer) -> bool:
    for key, wanted in keys.items():
        path = directory / shard_file(name, key)
        if not path.exists() or file_digest(path) != wanted:
            observer.warn(f"{path} is missing or damaged; it is computed again.")
            return False
    return True


def _outputs(
    teacher: Teacher,
    corpus: Corpus,
    split: str,
    masking: MaskingConfig,
    config: TargetConfig,
    indices: NDArray[np.int64],
    epoch: int,
) -> dict[str, NDArray[Any]]:
    rows = (corpus.train if split == "train" else corpus.heldout)[indices]
    if config.kind == "representation":
        batch = teacher.targets_of(torch.from_numpy(rows))
    else:
        masked = mask_blocks(rows, indices, epoch, masking, corpus.special, corpus.vocab_size)
        batch = teacher.targets_of(torch.from_numpy(masked.input_ids), torch.from_numpy(masked.positions))
    outputs = {key: value for key, value in vars(batch).items() if value is not None}
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


def _empty(config: TargetConfig, blocks: int, rows: int, hidden: int) -> dict[str, NDArray[Any]]:
    return {key: np.empty((blocks, rows, hidden), dtype=config.dtype) for key in ARRAYS[config.kind]}
