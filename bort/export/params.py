"""Reads the arrays of an MXNet ``.params`` file without MXNet.

The layout, little-endian throughout, as MXNet 1.x writes it: a list is ``uint64 0x112, uint64 0``, a count and that many arrays, a
count and as many names. An array is a ``uint32`` magic that tells the version, its storage type (from version 2 on), its
shape (``uint32`` dimensions, ``int64`` each), its device (two ``int32``), its type, and the numbers themselves.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError

_LIST_MAGIC = 0x112
_VERSION_1, _VERSION_2, _VERSION_3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = 0
#: MXNet's type flags of the numbers that weights come in.
_TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
#: Above what any weight needs; a damaged file that claims more is refused before memory is asked for.
_MOST_DIMENSIONS, _LONGEST_NAME = 8, 1024


def read_params(path: Path | str) -> dict[str, NDArray[np.generic]]:
    """Returns the arrays of a ``.params`` file by name.

    Args:
        path: The file. Nothing in it is executed; sparse arrays are not supported.

    Raises:
        BortError: It cannot be read, is not such a file, or ends too early.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _Reader(file, path.stat().st_size, path).arrays()
    except OSError as error:
        raise BortError(f"{path} cannot be read ({error.strerror or error}).") from error


class _Reader:
    """Takes numbers off a file, and knows how many bytes are left to take."""

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self._file, self._left, self._path = file, size, path

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        magic, reserved = self._numbers("<QQ")
        if magic != _LIST_MAGIC or reserved != 0:
            raise self._broken("it does not begin as MXNet's lists of arrays do")
        arrays = [self._array() for _ in range(self._count())]
        names = [self._name() for _ in range(self._count())]
        if len(names) != len(arrays) or len(set(names)) != len(names):
            raise self._broken(f"it has {len(arrays)} arrays and {len(set(names))} different names")
        return dict(zip(names, arrays, strict=True))

    def _array(self) -> NDArray[np.generic]:
        (magic,) = self._numbers("<I")
        if magic in (_VERSION_2, _VERSION_3):
            if self._numbers("<i")[0] != _DENSE:
                raise self._broken("it has a sparse array")
        elif magic != _VERSION_1:
            raise self._broken("an array is of a version that is not known")
        (dimensions,) = self._numbers("<I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise self._broken(f"an array has {dimensions} dimensions")
        shape = self._numbers(f"<{dimensions}q")
        self._numbers("<ii")
        (flag,) = self._numbers("<i")
        # An empty array could claim any other dimension, and numpy takes none that memory could not hold.
        if flag not in _TYPES or min(shape) < 0 or math.prod(max(size, 1) for size in shape) > self._left:
            raise self._broken(f"an array has the shape {shape} and the type {flag}")
        kind = np.dtype(_TYPES[flag])
        return np.frombuffer(self._bytes(math.prod(shape) * kind.itemsize), dtype=kind).reshape(shape)

    def _name(self) -> str:
        (length,) = self._numbers("<Q")
        if length > _LONGEST_NAME:
            raise self._broken(f"a name has {length} bytes")
        try:
            return self._bytes(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self._broken("a name is not text") from None

    def _count(self) -> int:
        (count,) = self._numbers("<Q")
        # An array and a name take at least eight bytes each.
        if count > self._left // 8:
            raise self._broken(f"it announces {count} entries and is too short for them")
        return int(count)

    def _numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self._bytes(struct.calcsize(layout)))

    def _bytes(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self._left else b""
        if len(data) != count:
            raise self._broken("it ends too early")
        self._left -= count
        return data

    def _broken(self, what: str) -> BortError:
        return BortError(f"{self._path} is not a sound .params file: {what}.")
