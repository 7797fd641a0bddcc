"""Random streams as functions of seeds and coordinates, independent of what was drawn before.

Choose by what identifies the stream:

* integer arrays, one value per position: :func:`stream_keys` and :func:`draws` (SplitMix64: Steele, Lea and Flood, "Fast splittable
  pseudorandom number generators", 2014). Any value can be computed alone, equal on every machine and version of numpy;
* a few integers: :func:`seeded_generator` and :func:`seeds`;
* names, such as a study or an example: :func:`named_generator`, :func:`named_seed` and :func:`named_rank`;
* two integers of 64 bits: :func:`keyed_generator`, which does not hash them.

Recorded results depend on every value, so a scheme can be added but not changed: ``tests/test_randomness.py`` holds them.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)

_FIRST = np.uint64(0xBF58476D1CE4E5B9)

_SECOND = np.uint64(0x94D049BB133111EB)


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the SplitMix64 output function of each 64-bit value, a bijection."""
    # In place: masks are drawn for every batch, and temporaries cost more than the arithmetic.
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
    """Return a key for each combination of integer coordinates, such as (seed, epoch, index); arrays broadcast.

    Args:
        *coordinates: Integers or integer arrays, from 0 to 2⁶⁴ − 1.
    """
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(coordinate)).astype(np.uint64) for coordinate in coordinates))
    key = np.zeros(arrays[0].shape, dtype=np.uint64)
    for array in arrays:
        key = mix((key ^ mix(array + _GAMMA)) + _GAMMA)
    return key


def draws(keys: NDArray[np.uint64], start: int, count: int) -> NDArray[np.uint64]:
    """Return values ``start`` to ``start + count − 1`` of each key's stream, [*keys, count], uniform on 64 bits."""
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64) * _GAMMA
    return mix(keys[..., None] + steps)


def below(values: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """Scale 64-bit draws to integers from 0 to ``bound`` − 1 (bound below 2³², bias below 2⁻³² · bound)."""
    scaled = ((values >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)
    return scaled.astype(np.int64)


def uniform(values: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Scale 64-bit draws to floating-point numbers in [0, 1), with 53 bits each."""
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def seeded_generator(*entropy: int) -> np.random.Generator:
    """Return a Philox generator seeded by non-negative integers, such as a seed and a stream number."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def seeds(*entropy: int, count: int = 1, bits: Literal[32, 64] = 32) -> list[int]:
    """Return ``count`` seeds for generators of other libraries, derived from non-negative integers."""
    words = np.random.SeedSequence(entropy).generate_state(count, np.uint64 if bits == 64 else np.uint32)
    return [int(word) for word in words]


def keyed_generator(first: int, second: int) -> np.random.Generator:
    """Return the Philox generator whose key is the two integers, from 0 to 2⁶⁴ − 1."""
    return np.random.Generator(np.random.Philox(key=np.array([first, second], dtype=np.uint64)))


def named_generator(*parts: object) -> np.random.Generator:
    """Return a Philox generator keyed by the text of ``parts``, such as a seed, an example's name and a number."""
    return np.random.Generator(np.random.Philox(key=np.frombuffer(_hashed(parts).digest()[:16], dtype=np.uint64)))


def named_seed(*parts: object) -> int:
    """Return a seed from 0 to 2⁶³ − 1, derived from the text of ``parts``."""
    return int.from_bytes(_hashed(parts).digest()[:8], "big") >> 1


def named_rank(*parts: object) -> str:
    """Return a sort key (hexadecimal) derived from the text of ``parts``: sorting by it is a random permutation."""
    return _hashed(parts).hexdigest()


def _hashed(parts: tuple[object, ...]) -> hashlib._Hash:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode())
