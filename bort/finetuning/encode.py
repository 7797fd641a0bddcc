"""A task as token ids: tokenised once, batched by length, in an order that is a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.tasks.task import Example

if TYPE_CHECKING:
    import torch

#: Batches whose examples are sorted by length together: more pad less, fewer mix better.
_POOL = 16
#: Tokens, padding included, that are read at once where no gradient is needed.
EVALUATION_TOKENS = 4096


@dataclass(frozen=True)
class Encoded:
    """One split as token ids, packed end to end.

    Args:
        fields: For each input of the model (``input_ids`` and, where the tokenizer gives them, ``token_type_ids``) all tokens, [T].
        starts: Where each example begins, and the end: [N + 1].
        labels: Class indices or targets, [N].
        padding: What each field is filled up with.
    """

    fields: dict[str, NDArray[np.int64]]
    starts: NDArray[np.int64]
    labels: NDArray[np.float64]
    padding: dict[str, int]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, [N]."""
        return np.diff(self.starts)

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Returns the model's inputs for some examples, [B, longest], with their ``attention_mask``."""
        import torch

        lengths = self.lengths[indices]
        width = int(lengths.max())
        mask = np.arange(width) < lengths[:, None]
        inputs = {}
        for name, tokens in self.fields.items():
            padded = np.full(mask.shape, self.padding[name], dtype=np.int64)
            padded[mask] = np.concatenate([tokens[self.starts[index] : self.starts[index + 1]] for index in indices])
            inputs[name] = torch.from_numpy(padded)
        return {**inputs, "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def encode(examples: Sequence[Example], tokenizer: Any, max_length: int) -> Encoded:
    """Tokenises a split.

    Args:
        examples: One text or two each.
        tokenizer: A tokenizer of transformers.
        max_length: Tokens of an example, special ones included; of a pair the longer text is cut first.
    """
    columns = list(zip(*(example.texts for example in examples), strict=True))
    made = tokenizer(*[list(column) for column in columns], truncation=True, max_length=max_length, padding=False)
    names = [name for name in ("input_ids", "token_type_ids") if name in made]
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in made["input_ids"]])]).astype(np.int64)
    return Encoded(
        fields={name: np.fromiter((token for ids in made[name] for token in ids), dtype=np.int64) for name in names},
        starts=starts,
        labels=np.array([example.label for example in examples], dtype=np.float64),
        padding={"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0)},
    )


def training_batches(lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Returns one epoch of batches: every example once, batches of like length, all in an order drawn from (seed, epoch)."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)))
    order = generator.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    pool = batch_size * _POOL
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def evaluation_batches(lengths: NDArray[np.int64], tokens: int = EVALUATION_TOKENS) -> list[NDArray[np.int64]]:
    """Returns batches of like length, each of at most ``tokens`` tokens with padding (or one example)."""
    order = np.argsort(lengths, kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted upwards: the next example is the longest so far and would set the width.
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > tokens:
            batches.append(order[start:end])
            start = end
    return batches
