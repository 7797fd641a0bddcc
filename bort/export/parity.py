"""Whether two forms of a model give the same output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.measure.models import tells_texts_apart
from bort.model_facts import first_output, usable_positions
from bort.randomness import seeded_generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ids = NDArray[np.int64]
#: From token ids, mask and token types [B, S] to the first output.
Runner = Callable[[Ids, Ids, Ids], NDArray[np.float32]]

#: Tokens of one comparison batch, so that a vocabulary's worth of logits for each stays small.
_TOKENS = 1024


def random_batches(model: PreTrainedModel, count: int, seed: int, *, token_types: bool = False) -> list[tuple[Ids, Ids, Ids]]:
    """Returns ``count`` batches of random token ids, attention masks and token types [B, S].

    The first is one token long and the second as long as the model takes (at most 512), the rest anything between. Half of the
    masks end early, as padding does; the other half have holes. The first token is always attended to. With
    ``token_types`` a second text begins anywhere.
    """
    generator = seeded_generator(seed)
    longest = usable_positions(model.config)
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
        borders = generator.integers(1, length + 1, size=(batch, 1)) if token_types else length
        types = (np.arange(length)[None, :] >= borders).astype(np.int64) * mask
        batches.append((np.where(mask == 1, ids, padding), mask, types))
    return batches


def largest_difference(first: Runner, second: Runner, batches: Iterable[tuple[Ids, Ids, Ids]]) -> float:
    """Returns the largest absolute difference between two forms' outputs, NaN if either gives one."""
    largest = 0.0
    for batch in batches:
        difference = float(np.abs(first(*batch) - second(*batch)).max())
        if not difference <= largest:
            largest = difference
        if np.isnan(largest):
            break
    return largest


def torch_runner(model: PreTrainedModel) -> Runner:
    """Returns a function from token ids, mask and token types to the first output of a transformers model."""
    apart = tells_texts_apart(model)

    def run(ids: Ids, mask: Ids, types: Ids) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            arrays = {"input_ids": ids, "attention_mask": mask, **({"token_type_ids": types} if apart else {})}
            output: NDArray[np.float32] = first_output(
                model, {name: torch.from_numpy(values) for name, values in arrays.items()}
            ).numpy()
            return output

    return run


def session_runner(session: Any) -> Runner:
    """Returns a function from token ids, mask and token types to the first output of an ONNX Runtime session."""
    from bort.measure.runtime import run_session

    return lambda ids, mask, types: run_session(session, ids, mask, types)
