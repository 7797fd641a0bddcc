"""Random numbers that are a function of where they stand, not of what was drawn before.

Each value is one output of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), whose state
is a plain counter: any of them can be computed alone, for a whole batch at once, the same on every machine and version of numpy.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)

_FIRST = np.uint64(0xBF58476D1CE4E5B9)

_SECOND = np.uint64(0x94D049BB133111EB)


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scrambles 64-bit values, each into another one and no two into the same: the output function of SplitMix64."""
    # In place where it can be: masks are drawn for every batch, and temporaries cost more than the arithmetic.
    mixed = value >> np.uint64(30)
    mixed ^= value
    mixed *= _FIRST
    shifted = mixed >> np.uint64(27)
    mixed ^= shifted
    mixed *= _SECOND
    np.right_shift(mixed, np.uint64(31), out=shifted)
    mixed ^= shifted
    return mixed


def stream_keys(*coordinates: Any) -> NDArray[np.uint64]:
    """Returns a key for each combination of integer coordinates, such as (seed, epoch, index); arrays broadcast.

    Args:
        *coordinates: Whole numbers or integer arrays, from 0 to 2⁶⁴ − 1.
    """
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(coordinate)).astype(np.uint64) for coordinate in coordinates))
    key = np.zeros(arrays[0].shape, dtype=np.uint64)
    for array in arrays:
        key = mix((key ^ mix(array + _GAMMA)) + _GAMMA)
    return key


def draws(keys: NDArray[np.uint64], start: int, count: int) -> NDArray[np.uint64]:
    """Returns the values number ``start`` … ``start + count − 1`` of each key's stream, [*keys, count], uniform on 64 bits."""
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64) * _GAMMA
    return mix(keys[..., None] + steps)


def below(values: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """Scales 64-bit draws to whole numbers from 0 to ``bound`` − 1 (bound below 2³², bias below 2⁻³² · bound)."""
    scaled = ((values >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)
    return scaled.astype(np.int64)


def uniform(values: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Scales 64-bit draws to floating-point numbers in [0, 1), with 53 bits each."""
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(*parts: object) -> np.random.Generator:
    """Returns a generator that depends on its parts alone: the same seed, example and number always draw the same."""
    key = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype=np.uint64)))
