"""Text to blocks: read, tokenise, split by document, pack; interrupted at any point, it goes on from there.

Every document is tokenised, in reading order, into parts that are written whole (:mod:`bort.corpus.parts`); then the documents are
put into a seeded order, split and packed (:mod:`bort.corpus.pack`).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bort.corpus.config import CorpusConfig
from bort.corpus.pack import pack
from bort.corpus.parts import write_parts
from bort.corpus.readers import files_of, is_hub
from bort.corpus.store import RECORD, SCHEMA, WORDS
from bort.corpus.tokenizer import bare_tokenizer, special_ids, tokenizer_digest
from bort.corpus.words import word_marks
from bort.errors import BortError, ConfigurationError, RecordError
from bort.events import Observer, Quiet
from bort.files import atomic_path, digest, file_digest, read_json, write_json


def build_corpus(
    config: CorpusConfig,
    tokenizer: Any,
    directory: Path | str,
    *,
    workers: int = 1,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Builds a corpus of blocks in ``directory``.

    Args:
        config: Where the text comes from and how it is cut.
        tokenizer: A fast tokenizer of transformers: the teacher's.
        directory: Where the corpus is written. What an interrupted call with the same settings left there is used.
        workers: Threads that tokenise; the result is the same for any number.
        observer: Hears of progress.

    Returns:
        The record, as in ``corpus.json``: ``digest``, ``documents``, ``tokens`` and ``blocks`` of each split, ``sources`` …

    Raises:
        BortError: The text cannot be read, or there is too little of it; the message names the key and the file.
        RecordError: ``directory`` holds a corpus of other settings.
    """
    observer = observer or Quiet()
    directory = Path(directory)
    started = time.perf_counter(), time.process_time()
    config.check()
    bare, special = bare_tokenizer(tokenizer), special_ids(tokenizer)
    files = [] if is_hub(config) else files_of(config)
    plan = {
        "settings": {key: value for key, value in asdict(config).items() if key not in ("name", "path", "pattern")},
        "sources": _sources(config, files),
        "tokenizer": tokenizer_digest(tokenizer),
    }
    if (directory / RECORD).exists():
        record = read_json(directory / RECORD)
        if record.get("plan") != digest(plan):
            raise RecordError(
                f"{directory} holds a corpus of other settings, text or tokenizer; choose another folder or remove it."
            )
        return dict(record)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)
    parts = directory / "parts"
    if parts.exists() and not ((parts / "plan.json").exists() and read_json(parts / "plan.json") == plan):
        shutil.rmtree(parts)
    if not parts.exists():
        write_json(parts / "plan.json", plan)
    try:
        with _threads(workers):
            documents = write_parts(config, files, bare, dtype, parts, observer)
        packed = pack(config, special, dtype, documents, directory, observer)
        with atomic_path(directory / WORDS) as temporary:
            np.save(temporary, word_marks(tokenizer), allow_pickle=False)
    except BortError as error:
        # Settings that are refused will be others the next time, and would not use these parts.
        if isinstance(error, ConfigurationError) or not any(parts.glob("*.npy")):
            shutil.rmtree(parts)
        if not any(directory.iterdir()):
            directory.rmdir()
        raise
    record = {
        "schema": SCHEMA,
        "name": config.name,
        "plan": digest(plan),
        "sources": plan["sources"],
        "settings": plan["settings"],
        "tokenizer": plan["tokenizer"],
        "block_length": config.block_length,
        "vocab_size": len(tokenizer),
        "special": special,
        **packed,
    }
    record["digest"] = digest({key: record[key] for key in ("tokenizer", "block_length", "vocab_size", "special", "digests")})
    record["seconds"] = time.perf_counter() - started[0]
    record["processor_seconds"] = time.process_time() - started[1]
    write_json(directory / RECORD, record)
    shutil.rmtree(parts)
    return record


def _sources(config: CorpusConfig, files: list[Path]) -> list[dict[str, Any]]:
    if not files:
        return [{"hub": config.path, "revision": config.revision, "subset": config.subset, "split": config.split}]
    return [{"name": file.name, "bytes": file.stat().st_size, "digest": file_digest(file)} for file in files]


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """Sets how many threads the tokenizer uses: the library reads these two variables, the second when it first runs."""
    wanted = {"TOKENIZERS_PARALLELISM": "true" if workers > 1 else "false", "RAYON_NUM_THREADS": str(max(1, workers))}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
