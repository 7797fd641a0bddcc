"""Whether two forms of a model give the same output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.measure.models import usable_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ids = NDArray[np.int64]
Runner = Callable[[Ids, Ids], NDArray[np.float32]]

#: Tokens of one comparison batch, so that a vocabulary's worth of logits for each stays small.
_TOKENS = 1024


def random_batches(model: PreTrainedModel, count: int, seed: int) -> list[tuple[Ids, Ids]]:
    """Returns ``count`` batches of random token ids and attention masks [B, S].

    The first is one token long and the second as long as the model takes (at most 512), the rest anything between. Half of the
    masks end early, as padding does; the other half have holes. The first token is always attended to.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    longest = usable_positions(model)
    padding = int(getattr(model.config, "pad_token_id", None) or 0)
    batches = []
    for number in range(count):
        length = (1, longest)[number] if number < 2 else int(generator.integers(1, longest + 1))
        batch = int(generator.integers(1, max(1, min(4, _TOKENS // length)) + 1))
        ids = generator.integers(0, model.config.vocab_size, size=(batch, length))
        ids[ids == padding] = (padding + 1) % model.config.vocab_size
        if number % 2:
            mask = (generator.random((batch, length)) < generator.uniform(0.3, 1.0)).astype(np.int64)
        else:
            ends = generator.integers(1, length + 1, size=(batch, 1))
            mask = (np.arange(length)[None, :] < ends).astype(np.int64)
        mask[:, 0] = 1
        batches.append((np.where(mask == 1, ids, padding), mask))
    return batches


def largest_difference(first: Runner, second: Runner, batches: Iterable[tuple[Ids, Ids]]) -> float:
    """Returns the largest absolute difference between two forms' outputs, NaN if either gives one."""
    largest = 0.0
    for ids, mask in batches:
        difference = float(np.abs(first(ids, mask) - second(ids, mask)).max())
        if not difference <= largest:
            largest = difference
        if np.isnan(largest):
            break
    return largest


def torch_runner(model: PreTrainedModel) -> Runner:
    """Returns a function from token ids and mask to the first output of a transformers model."""

    def run(ids: Ids, mask: Ids) -> NDArray[np.float32]:
        import torch

        from bort.measure.models import first_output

        with torch.inference_mode():
            output: NDArray[np.float32] = first_output(model, torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
            return output

    return run


def session_runner(session: Any) -> Runner:
    """Returns a function from token ids and mask to the first output of an ONNX Runtime session."""
    from bort.measure.runtime import run_session

    return lambda ids, mask: run_session(session, ids, mask)
