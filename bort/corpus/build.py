"""Text to blocks: read, clean, tokenise, split by document, pack; interrupted at any point, it goes on from there.

Every document is cleaned and tokenised, in reading order, into parts that are written whole (:mod:`bort.corpus.shards`); then the
documents are put into a seeded order, freed of duplicates, split and packed (:mod:`bort.corpus.pack`).
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bort.corpus.config import CorpusConfig
from bort.corpus.dataset import RECORD, SCHEMA, WORDS
from bort.corpus.pack import pack
from bort.corpus.shards import write_parts
from bort.corpus.sources import bytes_of, commits_of, describe
from bort.corpus.tokenizer import bare_tokenizer, special_ids, tokenizer_digest, word_marks
from bort.errors import BortError, ConfigurationError
from bort.files import atomic_path, digest, read_json, translate_disk_full, write_json
from bort.locks import exclusive
from bort.observer import Observer, Quiet
from bort.record import refuse_difference
from bort.settings import check_settings

#: Settings of a source that say where its text is, not what it is.
_PLACES = ("name", "path", "pattern", "streaming")


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
        config: Where the text comes from, what is taken out of it and how it is cut.
        tokenizer: A fast tokenizer of transformers: the teacher's.
        directory: Where the corpus is written. What an interrupted call with the same settings left there is used.
        workers: Processes that clean and tokenise; the result is the same for any number.
        observer: Hears of progress.

    Returns:
        The record, as in ``corpus.json``: ``digest``, ``documents``, ``tokens`` and ``blocks`` of each split, ``sources``,
        ``cleaning`` …

    Raises:
        BortError: The text cannot be read, or there is too little of it; the message names the key and the file.
        RecordError: ``directory`` holds a corpus of other settings.
    """
    observer = observer or Quiet()
    directory = Path(directory)
    check_settings(config, "corpus")
    bare, special = bare_tokenizer(tokenizer), special_ids(tokenizer)
    plan = {
        "settings": _settings(config),
        "sources": describe(config),
        "tokenizer": tokenizer_digest(tokenizer, bare),
    }
    try:
        with translate_disk_full(directory), exclusive(directory):
            if (directory / RECORD).exists():
                return _finished(directory, plan)
            return _build(config, tokenizer, bare, special, directory, plan, workers, observer)
    finally:
        if {path.name for path in directory.glob("*")} <= {".lock"}:
            shutil.rmtree(directory, ignore_errors=True)


def _build(
    config: CorpusConfig,
    tokenizer: Any,
    bare: Any,
    special: dict[str, int],
    directory: Path,
    plan: dict[str, Any],
    workers: int,
    observer: Observer,
) -> dict[str, Any]:
    started = time.perf_counter(), _processor_seconds()
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)
    parts = directory / "parts"
    begun = read_json(parts / "plan.json") if (parts / "plan.json").exists() else {}
    if begun.get("plan") != plan:
        shutil.rmtree(parts, ignore_errors=True)
        # A branch may move: what was begun with one commit goes on with it.
        begun = {"plan": plan, "commits": commits_of(config)}
        write_json(parts / "plan.json", begun)
    try:
        documents = write_parts(
            config, begun["commits"], bare, dtype, parts, observer, workers=workers, total=bytes_of(plan["sources"])
        )
        packed = pack(config, special, dtype, documents, directory, observer)
        with atomic_path(directory / WORDS) as temporary:
            np.save(temporary, word_marks(tokenizer), allow_pickle=False)
    except BortError as error:
        # Settings that are refused will be others the next time, and would not use these parts.
        if isinstance(error, ConfigurationError) or not any(parts.glob("*.safetensors")):
            shutil.rmtree(parts)
        raise
    record = {
        "schema": SCHEMA,
        "name": config.name,
        "plan": digest(plan),
        "sources": [
            {**source, "commit": commit} if commit else source
            for source, commit in zip(plan["sources"], begun["commits"], strict=True)
        ],
        "settings": plan["settings"],
        "tokenizer": plan["tokenizer"],
        "block_length": config.block_length,
        "vocab_size": len(tokenizer),
        "special": special,
        **packed,
    }
    record["digest"] = digest({key: record[key] for key in ("tokenizer", "block_length", "vocab_size", "special", "digests")})
    record["seconds"] = time.perf_counter() - started[0]
    record["processor_seconds"] = _processor_seconds() - started[1]
    write_json(directory / RECORD, record)
    shutil.rmtree(parts)
    return record


def _finished(directory: Path, plan: dict[str, Any]) -> dict[str, Any]:
    record = read_json(directory / RECORD)
    refuse_difference(directory, "a corpus", record.get("plan"), digest(plan))
    return dict(record)


def _settings(config: CorpusConfig) -> dict[str, Any]:
    """Returns what changes the blocks beside the text itself."""
    settings = {key: value for key, value in asdict(config).items() if key not in _PLACES}
    settings["sources"] = (
        [{key: value for key, value in asdict(source).items() if key not in _PLACES[1:]} for _, source in config.all_sources()]
        if config.sources
        else []
    )
    return settings


def _processor_seconds() -> float:
    """Returns the processor time of this process and of those it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
