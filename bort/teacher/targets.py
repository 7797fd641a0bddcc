"""Soft targets: the teacher's outputs for a corpus, computed once, kept on disk, and read back by every candidate.

``representation`` keeps the last hidden state and the input of the last layer's projections at every position, from which queries,
keys and values come back by one product each. ``logits`` keeps, at the masked positions, the head's transformed hidden state, from
which the logits come back by one product: a few hundred numbers a position instead of one for each entry of the vocabulary; or, in
the form ``topk``, the largest logits and a sample of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bort.corpus.config import MaskingConfig
from bort.corpus.dataset import Blocks, Corpus
from bort.errors import BortError, ConfigurationError, RecordError
from bort.files import digest, read_json, well_formed
from bort.record import refuse_newer
from bort.settings import check_settings
from bort.teacher.config import TargetConfig
from bort.teacher.model import TargetBatch, Teacher, check_vocabulary
from bort.teacher.sparse import SparseLogits
from bort.teacher.store import Integers, Store, check_identity

RECORD = "targets.json"
SCHEMA = 2


def targets_identity(teacher: Teacher, corpus: Corpus, masking: MaskingConfig, config: TargetConfig) -> dict[str, Any]:
    """Returns what soft targets are bound to: pass it to :meth:`Targets.open` as ``expected``.

    The masks count only for ``logits``: representations are those of the unmasked block.

    Raises:
        BortError: Teacher, corpus and settings do not go together.
    """
    check_settings(config, "targets")
    check_vocabulary(teacher, corpus.vocab_size, corpus.tokenizer_digest)
    if corpus.block_length > teacher.positions:
        raise ConfigurationError(
            "corpus.block_length",
            corpus.block_length,
            f"<= {teacher.positions}, the most tokens that the teacher {teacher.path} reads",
        )
    identity: dict[str, Any] = {
        "teacher": teacher.digest,
        "tokenizer": teacher.tokenizer_digest,
        "corpus": corpus.digest,
        "kind": config.kind or "representation",
        "dtype": config.dtype,
        "blocks": _wanted(config.blocks, corpus.train, "targets.blocks", "train"),
        "heldout_blocks": _wanted(config.heldout_blocks, corpus.heldout, "targets.heldout_blocks", "held-out"),
    }
    if "logits" in config.kinds:
        check_settings(masking, "masking")
        identity |= {"epochs": config.epochs, **{f"masking.{key}": value for key, value in asdict(masking).items()}}
        identity["form"] = form = config.form if teacher.splits else "topk"
        if form == "topk":
            temperature = 1.0 if config.temperature is None else config.temperature
            identity |= {"top_k": config.top_k, "tail_samples": config.tail_samples, "temperature": temperature}
            if config.top_k >= teacher.vocab_size:
                accepted = f"< {teacher.vocab_size}, the size of the vocabulary"
                raise ConfigurationError("targets.top_k", config.top_k, accepted)
    return identity


def identity_of_kind(identity: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns what the part of one kind is bound to: representations know nothing of masks and of the form of logits."""
    shared = ("teacher", "tokenizer", "corpus", "dtype", "blocks", "heldout_blocks")
    part = {key: identity[key] for key in shared} if kind == "representation" else dict(identity)
    return part | {"kind": kind}


class Targets:
    """Soft targets that were built, opened for reading.

    Attributes:
        kind: ``representation``, ``logits`` or ``both``.
        epochs: How many epochs of masks are covered; 0 for representations alone, which serve any epoch.
        blocks: How many train blocks are covered, from the first.
        heldout_blocks: How many held-out blocks are covered, from the first.
        digest: Identifies content and inputs.
        record: All of ``targets.json``.
    """

    def __init__(self, directory: Path, record: dict[str, Any], stores: Mapping[str, Store]) -> None:
        self.directory, self.record, self._stores = directory, record, dict(stores)
        identity = record["identity"]
        self.kind: str = identity["kind"]
        self.epochs: int = identity.get("epochs", 0)
        self.blocks: int = identity["blocks"]
        self.heldout_blocks: int = identity["heldout_blocks"]
        self.digest: str = record["digest"]

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
        with well_formed(directory / RECORD, "a record of soft targets"):
            check_schema(directory, record)
            check_identity(directory, record["identity"], expected)
            stores = {kind: Store.open(directory / kind, verify=verify) for kind in record["kinds"]}
            if digest({kind: store.digest for kind, store in stores.items()}) != record["digest"]:
                raise RecordError(f"{directory} and the folders in it do not belong together; remove it and make them again.")
            return cls(directory, record, stores)

    def count(self, split: str) -> int:
        """Returns how many blocks of ``split`` are covered, from the first."""
        return self.blocks if split == "train" else self.heldout_blocks

    def batch(self, split: str, indices: Integers, epochs: Integers | None = None) -> TargetBatch:
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
        values: dict[str, Any] = {}
        for kind, store in self._stores.items():
            values |= store.rows(split, indices, epochs if kind == "logits" else np.zeros_like(indices))
        if "ids" in values:
            ids, kept, summary = (values.pop(name) for name in ("ids", "values", "summary"))
            identity = self.record["identity"]
            values["kept"] = SparseLogits(ids, kept, summary, identity["top_k"], identity["temperature"])
        return TargetBatch(**values)


def check_schema(directory: Path, record: Mapping[str, Any]) -> None:
    """Refuses soft targets of another version of their layout.

    Raises:
        RecordError: They are newer, or too old to be read.
    """
    schema = refuse_newer(directory / RECORD, record, SCHEMA)
    if schema < SCHEMA:
        raise RecordError(f"{directory} holds soft targets of an older version of Bort (schema {schema}); remove it.")


def _wanted(count: int | None, blocks: Blocks, key: str, split: str) -> int:
    if count is not None and count > len(blocks):
        raise ConfigurationError(key, count, f"<= {len(blocks)}, as the corpus has {len(blocks)} {split} blocks")
    return len(blocks) if count is None else count
