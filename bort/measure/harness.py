"""Rounds of calls: every series once a round in an order drawn for it, wall and processor time of each call."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bort.quiet import quiet
from bort.randomness import keyed_generator

if TYPE_CHECKING:
    from bort.measure.config import BenchmarkConfig

Ids = NDArray[np.int64]
#: Rounds that a cell has even where its time is up.
LEAST_ROUNDS = 5


@dataclass
class Series:
    """One model on one backend: ``call`` takes token ids [B, S] and runs one forward pass."""

    model: str
    backend: str
    call: Callable[[Ids], object]
    milliseconds: list[float] = field(default_factory=list)
    processor_milliseconds: list[float] = field(default_factory=list)


def run_round(series: Sequence[Series], ids: Ids, key: tuple[int, int], *, primed: bool = False) -> None:
    """Calls every series once, in an order drawn from ``key``, and adds what each call took to its times.

    Args:
        series: What to call.
        ids: Token ids [B, S].
        key: Of the order.
        primed: Whether a call that is not timed goes before each that is: the weights of a small model are then in the processor's
            cache, as they are where it runs alone, and not those of the large model that was called before it.
    """
    for index in keyed_generator(*key).permutation(len(series)):
        one = series[index]
        if primed:
            one.call(ids)
        processor, wall = time.process_time(), time.perf_counter()
        one.call(ids)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        one.milliseconds.append(wall * 1e3)
        one.processor_milliseconds.append(processor * 1e3)


def time_series(
    series: Sequence[Series], ids: Ids, config: BenchmarkConfig, number: int, told: Callable[[float], None] = lambda done: None
) -> None:
    """Fills every series with its times for the same token ids.

    Args:
        series: What to time; what it has been filled with before is thrown away.
        ids: Token ids [B, S].
        config: Warm-up, repeats, limit of time and seed.
        number: Makes the order of the rounds differ from cell to cell.
        told: Is handed the share that is done, after each round.
    """
    for one in series:
        one.milliseconds.clear()
        one.processor_milliseconds.clear()
        for _ in range(config.warmup):
            one.call(ids)
    start = time.perf_counter()
    with no_collection():
        for turn in range(config.repeats):
            run_round(series, ids, (config.seed, (number << 32) + turn + 1), primed=True)
            told((turn + 1) / config.repeats)
            if config.seconds is not None and turn + 1 >= LEAST_ROUNDS and time.perf_counter() - start > config.seconds:
                break


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Gives PyTorch so many threads for a while."""
    with quiet("transformers", everything=True):
        import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def no_collection() -> Iterator[None]:
    """Keeps Python's garbage collector from falling into somebody's call."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
