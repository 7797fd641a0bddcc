"""A task's examples as token ids: tokenized once, padded batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.errors import BortError
from bort.finetuning.batches import evaluation_batches
from bort.tasks.task import Example, Task


@dataclass(frozen=True)
class Arrangement:
    """The example of a batch, and its option, of each sequence.

    Args:
        examples: Position of the example in the batch, [R]; every position from 0 on has a sequence.
        options: Number of the option, [R]; 0 where there are none.
        choice: Whether options are chosen from, so that each sequence has one logit.
        pooling: ``mean`` or ``max`` over the windows of one example and option.
    """

    examples: NDArray[np.int64]
    options: NDArray[np.int64]
    choice: bool = False
    pooling: str = "mean"

    def gather(self, found: Tensor) -> Tensor:
        """Return the logits of the examples; differentiable.

        Args:
            found: Those of the sequences, [R, outputs].

        Returns:
            [B, outputs]; for a choice [B, most options], −∞ where an example has fewer.
        """
        count, width = int(self.examples.max()) + 1, int(self.options.max()) + 1
        if len(self.examples) == count and width == 1:
            return found
        cells = torch.from_numpy(self.examples * width + self.options).to(found.device)
        size = (count * width, found.shape[-1])
        windows = torch.bincount(cells, minlength=count * width)
        if self.pooling == "max":
            index = cells.unsqueeze(-1).expand_as(found)
            pooled = found.new_full(size, -torch.inf).scatter_reduce(0, index, found, "amax")
        else:
            pooled = found.new_zeros(size).index_add(0, cells, found) / windows.clamp(min=1).unsqueeze(-1)
        if not self.choice:
            return pooled
        return pooled.view(count, width).masked_fill(windows.view(count, width) == 0, -torch.inf)


#: Sequences that are tokenised at once.
_CHUNK = 4096


@dataclass(frozen=True)
class Encoded:
    """One split as token ids, packed end to end. An example is one sequence, or one for each of its options and windows.

    Args:
        fields: For each input of the model (``input_ids`` and, where the tokenizer gives them, ``token_type_ids``) all tokens, [T].
        starts: Where each sequence begins, and the end: [S + 1].
        labels: Class indices or targets of the examples, [N].
        padding: What each field is filled up with.
        owners: The example that each sequence belongs to, [S], ascending; the sequences are the examples if ``None``.
        options: Its option, [S]; 0 if ``None``.
        right: For a choice, which options are right, [N, most options].
        window_pooling: ``mean`` or ``max`` over windows.
    """

    fields: dict[str, NDArray[Any]]
    starts: NDArray[np.int64]
    labels: NDArray[np.float64]
    padding: dict[str, int]
    owners: NDArray[np.int64] | None = None
    options: NDArray[np.int64] | None = None
    right: NDArray[np.bool_] | None = None
    window_pooling: str = "mean"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, [S]."""
        return np.diff(self.starts)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Tokens of the longest sequence of each example, [N]."""
        return self.lengths if self.owners is None else np.maximum.reduceat(self.lengths, self._rows[:-1])

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """First sequence of each example, and the end: [N + 1]."""
        return np.searchsorted(self.owners, np.arange(len(self.labels) + 1))  # type: ignore[arg-type]

    def pick(self, indices: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int64], Arrangement]:
        """Return the sequences of some examples (of all if ``None``) and their arrangement."""
        indices = np.arange(len(self.labels)) if indices is None else indices
        if self.owners is None or self.options is None:
            return indices, Arrangement(np.arange(len(indices)), np.zeros(len(indices), dtype=np.int64))
        sequences = np.concatenate([np.arange(self._rows[index], self._rows[index + 1]) for index in indices])
        places = np.repeat(np.arange(len(indices)), np.diff(self._rows)[indices])
        return sequences, Arrangement(places, self.options[sequences], self.right is not None, self.window_pooling)

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the model's inputs for some sequences, [B, longest], with their ``attention_mask``."""
        lengths = self.lengths[indices]
        width = int(lengths.max())
        mask = np.arange(width) < lengths[:, None]
        inputs = {}
        for name, tokens in self.fields.items():
            padded = np.full(mask.shape, self.padding[name], dtype=np.int64)
            padded[mask] = np.concatenate([tokens[self.starts[index] : self.starts[index + 1]] for index in indices])
            inputs[name] = torch.from_numpy(padded)
        return {**inputs, "attention_mask": torch.from_numpy(mask.astype(np.int64))}

    def logits(self, outputs: int, forward: Callable[[NDArray[np.int64]], Tensor]) -> NDArray[np.float64]:
        """Compute the logits of all examples in their order, without gradients.

        Args:
            outputs: Logits of a sequence.
            forward: From the numbers of some sequences to their logits, [B, outputs].

        Returns:
            [N, outputs]; for a choice [N, most options], −∞ where an example has fewer.
        """
        found = np.empty((len(self.lengths), outputs))
        with torch.inference_mode():
            for indices in evaluation_batches(self.lengths):
                found[indices] = forward(indices).cpu().double().numpy()
        gathered: NDArray[np.float64] = self.pick()[1].gather(torch.from_numpy(found)).numpy()
        return gathered


def encode(examples: Sequence[Example], tokenizer: Any, max_length: int, task: Task | None = None) -> Encoded:
    """Tokenize a split.

    Args:
        examples: The examples.
        tokenizer: A tokenizer of transformers.
        max_length: Tokens of a sequence, special ones included.
        task: Determines the sequences of an example, the text that is cut if one is too long, and the windows in which that
            text is read. Without it an example is its texts, and of a pair the longer one is cut first.

    Raises:
        BortError: What must not be cut, such as a question with its option, is longer than ``max_length`` by itself.
    """
    parts = [task.sequences(example) if task else [example.texts] for example in examples]
    owners = np.repeat(np.arange(len(parts)), [len(sequences) for sequences in parts])
    options = np.concatenate([np.arange(len(sequences)) for sequences in parts])
    texts = [texts for sequences in parts for texts in sequences]
    fields: dict[str, list[NDArray[np.int32]]] = {}
    lengths: list[int] = []
    kept: list[int] = []
    for place, window in _windows(texts, tokenizer, max_length, task, [examples[int(owner)] for owner in owners]):
        for name, tokens in window.items():
            fields.setdefault(name, []).append(np.asarray(tokens, dtype=np.int32))
        lengths.append(len(window["input_ids"]))
        kept.append(place)
    plain = len(kept) == len(examples) and (task is None or task.kind != "choice")
    right = None
    if task is not None and task.kind == "choice":
        right = np.zeros((len(examples), int(options.max()) + 1), dtype=np.bool_)
        for row, example in enumerate(examples):
            right[row, list(example.right)] = True
    return Encoded(
        fields={name: np.concatenate(tokens) for name, tokens in fields.items()},
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=np.array([example.label for example in examples], dtype=np.float64),
        padding={"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0)},
        owners=None if plain else owners[kept],
        options=None if plain else options[kept],
        right=right,
        window_pooling=task.window_pooling if task else "mean",
    )


def _windows(
    texts: Sequence[tuple[str, ...]], tokenizer: Any, max_length: int, task: Task | None, owners: Sequence[Example]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the tokens of each window of each sequence, with the sequence's number, in order."""
    # Only a fast tokenizer maps tokens to texts, so that a given text can be cut; others cut the longest.
    cut_longest = task is None or (task.truncate == "longest" and task.windows == 1) or not tokenizer.is_fast
    start = 0
    while start < len(texts):
        # Single texts and pairs go to the tokenizer in calls of their own.
        end = start
        while end < min(start + _CHUNK, len(texts)) and len(texts[end]) == len(texts[start]):
            end += 1
        columns = [list(column) for column in zip(*texts[start:end], strict=True)]
        made = tokenizer(*columns, truncation=cut_longest, max_length=max_length if cut_longest else None, verbose=False)
        names = [name for name in ("input_ids", "token_type_ids") if name in made]
        for place in range(start, end):
            whole = {name: made[name][place - start] for name in names}
            if len(whole["input_ids"]) <= max_length or task is None:
                yield place, whole
                continue
            owned = np.array([-1 if one is None else one for one in made[place - start].sequence_ids])
            for keep in _cuts(owned, max_length, task, owners[place]):
                yield place, {name: np.asarray(tokens)[keep] for name, tokens in whole.items()}
        start = end


def _cuts(owned: NDArray[np.int64], max_length: int, task: Task, example: Example) -> Iterator[NDArray[np.bool_]]:
    """Yield which tokens each window keeps: all that are not of the text that gives way, and a stretch of that."""
    gives_way = 1 if task.truncate == "second" and owned.max() == 1 else 0
    places = np.flatnonzero(owned == gives_way)
    room = max_length - (len(owned) - len(places))
    if room < 1:
        what = "question and option take" if example.options else "the text that must not be cut takes"
        raise BortError(
            f"{example.identity}: {what} {len(owned) - len(places)} tokens and a sequence has {max_length}; raise "
            "task.max_length as far as the model reads, or leave the example out."
        )
    step = max(1, room - task.overlap)
    firsts = [*range(0, len(places) - room, step), len(places) - room]
    if task.windows == 1:
        firsts = firsts[-1:] if task.keep == "end" else firsts[:1]
    for first in firsts[: task.windows]:
        keep = owned != gives_way
        keep[places[first : first + room]] = True
        yield keep
