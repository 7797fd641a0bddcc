"""A corpus on disk: fixed-length blocks of tokens, memory-mapped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import RecordError
from bort.files import file_digest, read_array, read_json, well_formed, whole_number
from bort.record import refuse_newer

RECORD = "corpus.json"
SCHEMA = 1
WORDS = "words.npy"
SPLITS = ("train", "heldout")


class Blocks:
    """The blocks of one split: ``[CLS] tokens… [SEP]``, all of one length, without padding.

    Args:
        array: Token ids, [blocks, block_length], usually memory-mapped.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, indices: NDArray[np.int64] | Sequence[int] | slice) -> NDArray[np.int64]:
        """Returns the chosen rows as int64 [B, S], in the order asked for."""
        rows: NDArray[np.int64] = np.asarray(self.array[indices], dtype=np.int64)
        return rows


class Corpus:
    """A corpus that was built, opened for reading.

    Attributes:
        train: The blocks to train on.
        heldout: The blocks to measure on; they share no document with ``train``.
        digest: Identifies content, block length and tokenizer.
        block_length: Tokens of a block, special tokens included.
        vocab_size: Tokens of the tokenizer.
        special: Ids of the special tokens: ``cls``, ``sep``, ``pad``, ``mask`` and, where there is one, ``unk``.
        tokenizer_digest: Identifies the tokenizer.
        record: All of ``corpus.json``: sources, counts, cost.
    """

    def __init__(self, directory: Path, record: dict[str, Any], train: Blocks, heldout: Blocks) -> None:
        self.directory, self.record, self.train, self.heldout = directory, record, train, heldout
        self.digest: str = record["digest"]
        self.block_length: int = record["block_length"]
        self.vocab_size: int = record["vocab_size"]
        self.special: dict[str, int] = dict(record["special"])
        self.tokenizer_digest: str = record["tokenizer"]

    @cached_property
    def words(self) -> NDArray[np.uint8] | None:
        """How each token of the vocabulary joins its neighbours, [vocab_size], as :func:`bort.corpus.tokenizer.word_marks`.

        ``None`` for a corpus that does not say. Whole-word masking needs it.
        """
        path = self.directory / WORDS
        if not path.exists():
            return None
        try:
            marks: NDArray[np.uint8] = read_array(path)
        except ValueError as error:
            raise RecordError(f"{path} cannot be read ({error}); remove {self.directory} and build the corpus again.") from error
        if marks.shape != (self.vocab_size,) or marks.dtype != np.uint8:
            raise RecordError(f"{path} does not match its record; remove {self.directory} and build the corpus again.")
        return marks

    @classmethod
    def open(cls, directory: Path | str, *, verify: bool = False) -> Corpus:
        """Opens the corpus in ``directory``.

        Args:
            directory: Where :func:`bort.corpus.build.build_corpus` wrote it.
            verify: Whether the blocks are read once and compared with their digests.

        Raises:
            RecordError: There is no corpus, or its files do not match its record.
        """
        directory = Path(directory)
        if not (directory / RECORD).exists():
            raise RecordError(f"{directory} holds no corpus; build one there with 'bort corpus'.")
        record = read_json(directory / RECORD)
        with well_formed(directory / RECORD, "a corpus's record"):
            refuse_newer(directory / RECORD, record, SCHEMA)
            for number in (record["vocab_size"], record["block_length"], *record["special"].values()):
                whole_number(number)
            return cls(directory, record, *(Blocks(_open_split(directory, record, split, verify)) for split in SPLITS))


def _open_split(directory: Path, record: dict[str, Any], split: str, verify: bool) -> NDArray[Any]:
    path = directory / f"{split}.npy"
    expected = (whole_number(record["blocks"][split]), record["block_length"])
    wanted = record["digests"][split]
    try:
        array: NDArray[Any] = read_array(path, mapped=expected[0] > 0)
    except ValueError as error:
        raise RecordError(f"{path} cannot be read ({error}); remove {directory} and build the corpus again.") from error
    if array.shape != expected or array.dtype.kind not in "iu" or (verify and file_digest(path) != wanted):
        raise RecordError(f"{path} does not match its record; remove {directory} and build the corpus again.")
    return array
