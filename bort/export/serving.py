"""Answers requests of mixed lengths with an exported model, without paying for padding.

A batch is as slow as its longest text: padded to it, most of what is computed is thrown away. Here the requests are sorted by
length and parted into the calls that cost least in all, and the answers come back in the order of the requests. Padding is masked,
so the answers are those of the padded batch, and of each request alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError, ConfigurationError
from bort.measure.models import load_tokenizer, transformers_directory
from bort.measure.runtime import open_session, run_session, vocabulary_and_positions

#: What a call costs beside its tokens, in tokens: the weights are read from memory once a call.
CALL_TOKENS = 32
#: Tokens of one call, padding included, at most: beyond them larger calls are not faster and need more memory.
MOST_TOKENS = 8192


def plan(lengths: Sequence[int], *, call_tokens: int = CALL_TOKENS, most_tokens: int = MOST_TOKENS) -> list[list[int]]:
    """Parts requests into calls so that the padded tokens of all calls, and ``call_tokens`` for each call, are fewest.

    Sorted by length, the best calls are runs of neighbours; which runs is found by dynamic programming, exactly, in O(n²).

    Args:
        lengths: Tokens of each request, at least 1.
        call_tokens: What a call costs beside its tokens, in tokens.
        most_tokens: Tokens of one call, padding included, at most; a single request may be longer.

    Returns:
        The calls, each with the places of its requests in ``lengths``, the shortest first.
    """
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    costs, starts = [0], [0]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        # One request may be too long for any call, and is a call of its own then.
        first = min(end - 1, max(0, end - most_tokens // max(1, longest)))
        start = min(range(first, end), key=lambda start: costs[start] + call_tokens + longest * (end - start))
        costs.append(costs[start] + call_tokens + longest * (end - start))
        starts.append(start)
    calls: list[list[int]] = []
    end = len(order)
    while end:
        calls.append(order[starts[end] : end])
        end = starts[end]
    return calls[::-1]


class Runtime:
    """An exported model that answers batches of requests of any lengths.

    Args:
        model: An export's directory, or an ONNX file.
        int8: Whether the int8 file of an export's directory is run. Its activations are scaled by what stands in the same call, so
            its answers depend, a little, on the other requests.
        threads: Threads of ONNX Runtime; None for its own choice.
        call_tokens: What a call costs beside its tokens, in tokens.
        padding: Token id that fills a call up; it is masked.

    Raises:
        BortError: There is no such file, or ONNX Runtime cannot open it.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        int8: bool = False,
        threads: int | None = None,
        call_tokens: int = CALL_TOKENS,
        padding: int = 0,
    ) -> None:
        model = Path(model)
        self.path = model / "onnx" / ("model_int8.onnx" if int8 else "model.onnx") if model.is_dir() else model
        if not self.path.is_file():
            hint = "export it with export=int8" if int8 else "export the model first"
            raise BortError(f"{self.path} is missing: {hint}.")
        self.call_tokens, self.padding = call_tokens, padding
        self._home = model if model.is_dir() else None
        self._session = open_session(self.path, threads)
        self.vocabulary, self.positions = vocabulary_and_positions(self._session)
        self._tokenizer: Any = None

    def outputs(
        self, requests: Sequence[Sequence[int]], token_types: Sequence[Sequence[int]] | None = None
    ) -> list[NDArray[np.float32]]:
        """Returns the model's first output for each request, in their order.

        Args:
            requests: Token ids of each, special tokens included and without padding.
            token_types: Which text of a pair each token belongs to, for models that tell them apart; None for all the first.

        Returns:
            For each request [S, H] or [S, V] where the model answers for each token, with its own S; else [C].

        Raises:
            ConfigurationError: A request is empty, or longer than the model takes.
        """
        return self._run(requests, token_types, plan([len(request) for request in requests], call_tokens=self.call_tokens))

    def padded(
        self, requests: Sequence[Sequence[int]], token_types: Sequence[Sequence[int]] | None = None
    ) -> list[NDArray[np.float32]]:
        """Returns the same from one call, every request padded to the longest: what :meth:`outputs` saves."""
        return self._run(requests, token_types, [list(range(len(requests)))] if requests else [])

    def read(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """Returns the model's first output for each text, or pair of texts, cut to what the model takes.

        Raises:
            BortError: The runtime was made from an ONNX file, which has no tokenizer beside it.
        """
        if self._tokenizer is None:
            if self._home is None:
                raise BortError(
                    f"{self.path} has no tokenizer: give the export's directory to read texts, or token ids to outputs."
                )
            self._tokenizer = load_tokenizer(transformers_directory(self._home))
        found = self._tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation=True,
            max_length=self.positions,
            return_attention_mask=False,
        )
        return self.outputs(found["input_ids"], found.get("token_type_ids"))

    def _run(
        self, requests: Sequence[Sequence[int]], token_types: Sequence[Sequence[int]] | None, calls: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float32]]:
        for request in requests:
            if not 0 < len(request) <= self.positions:
                raise ConfigurationError("requests", len(request), f"requests of 1 to {self.positions} tokens")
        answers: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(requests)
        for call in calls:
            longest = max(len(requests[place]) for place in call)
            ids = np.full((len(call), longest), self.padding, dtype=np.int64)
            mask, types = np.zeros_like(ids), np.zeros_like(ids)
            for row, place in enumerate(call):
                length = len(requests[place])
                ids[row, :length], mask[row, :length] = requests[place], 1
                if token_types is not None:
                    types[row, :length] = token_types[place]
            found = run_session(self._session, ids, mask, types)
            for row, place in enumerate(call):
                # What the model says of padding is of no use to anybody.
                answers[place] = found[row, : len(requests[place])] if found.ndim == 3 else found[row]
        return answers
