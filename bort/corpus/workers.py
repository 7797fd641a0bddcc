"""Batches of documents shared out among processes, their results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from typing import Any

import numpy as np

from bort.corpus.config import CorpusConfig
from bort.corpus.encode import Encoded, Encoder
from bort.corpus.readers import Document

#: A batch of documents, and where the reader stood behind it.
Batch = tuple[list[Document], dict[str, Any]]
_encoder: Encoder | None = None


def encode(
    config: CorpusConfig, bare: Any, dtype: np.dtype[Any], batches: Iterator[Batch], workers: int
) -> Iterator[tuple[Encoded, dict[str, Any]]]:
    """Yields every batch tokenised, with the reader's place behind it, in the order of the batches.

    Args:
        config: The corpus.
        bare: The tokenizer, as :func:`bort.corpus.tokenizer.bare_tokenizer` gives it.
        dtype: The type of stored tokens.
        batches: The batches; only a few of them are read ahead.
        workers: Processes that tokenise. The results are the same for any number.
    """
    first = list(islice(batches, 2))
    batches = chain(first, batches)
    if workers <= 1 or len(first) < 2:
        encoder = Encoder(config, bare, dtype)
        for documents, position in batches:
            yield encoder(documents), position
        return
    # Forked processes would inherit the locks of threads that they do not have.
    context = multiprocessing.get_context("spawn")
    arguments = (config, bare.to_str(), str(dtype))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=arguments) as pool:
        waiting: deque[tuple[Future[Encoded], dict[str, Any]]] = deque()
        try:
            for documents, position in batches:
                waiting.append((pool.submit(_encode, documents), position))
                if len(waiting) > 2 * workers:
                    future, behind = waiting.popleft()
                    yield future.result(), behind
            while waiting:
                future, behind = waiting.popleft()
                yield future.result(), behind
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(config: CorpusConfig, tokenizer: str, dtype: str) -> None:
    """Makes a process ready: it leaves interruptions to the main one, and ends with it even where that was killed."""
    from tokenizers import Tokenizer

    from bort.corpus.tokenizer import read_text_alone

    global _encoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    bare = Tokenizer.from_str(tokenizer)
    read_text_alone(bare)
    _encoder = Encoder(config, bare, np.dtype(dtype))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(documents: list[Document]) -> Encoded:
    if _encoder is None:
        raise RuntimeError("The process was not made ready.")
    return _encoder(documents)
