"""The Pareto front of (p, i, e), all to be small, and how much it dominates."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Returns the indices of the points that no other point dominates, ascending; equal points stay together.

    Args:
        points: Rows of objectives, all to be minimised.
    """
    if not len(points):
        return []
    values = np.asarray(points, dtype=np.float64)
    # In lexicographic order a point can only be dominated by an earlier one, so one pass over the front so far is enough.
    front: list[int] = []
    kept = np.empty_like(values)
    for index in np.lexsort(values.T[::-1]):
        point = values[index]
        earlier = kept[: len(front)]
        dominated = np.all(earlier <= point, axis=1) & np.any(earlier < point, axis=1)
        if not dominated.any():
            kept[len(front)] = point
            front.append(int(index))
    return sorted(front)


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Returns the exact volume that points in three objectives dominate, up to a reference point.

    The third objective is swept upwards. In the other two, the points met so far dominate the area above a staircase, which grows
    with each of them: O(n log n), save for moving the steps that a point covers.

    Args:
        points: Rows of three objectives, all to be minimised; what lies beyond the reference counts nothing.
        reference: The corner up to which volume is counted.
    """
    corner = np.asarray(reference, dtype=np.float64)
    values = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    values = values[np.all(values < corner, axis=1)]
    # Equal in the third they go by the others, so that the sum is the same to the last bit in whatever order they come.
    values = values[np.lexsort(values.T)]
    stairs = _Staircase(float(corner[0]), float(corner[1]))
    volume, below = 0.0, 0.0
    for x, y, z in values.tolist():
        volume += stairs.area * (z - below)
        stairs.add(x, y)
        below = z
    return float(volume + stairs.area * (float(corner[2]) - below))


class _Staircase:
    """The area that points in two objectives dominate, up to a corner."""

    def __init__(self, right: float, top: float) -> None:
        self.area = 0.0
        self._top = top
        # Steps from left to right, each lower than the one before; the last one is the corner's edge.
        self._x, self._y = [right], [-np.inf]

    def add(self, x: float, y: float) -> None:
        """Adds a point that lies before the corner."""
        first = bisect_left(self._x, x)
        height = self._y[first - 1] if first else self._top
        if y >= height:
            return
        left, last = x, first
        while True:
            self.area += (self._x[last] - left) * (height - y)
            if self._y[last] < y:
                break
            left, height = self._x[last], self._y[last]
            last += 1
        self._x[first:last], self._y[first:last] = [x], [y]


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns Kendall's rank correlation (τ-b) between two rankings of the same candidates.

    Knight's algorithm (1966): order by the first ranking, then count the exchanges that sorting by the second takes. It is
    written out since SciPy's, which it is tested against, takes a second to import.

    Returns:
        A number from −1 to 1, or ``None`` where a ranking has fewer than two different values.
    """
    x, y = _ranks(first), _ranks(second)
    pairs = len(x) * (len(x) - 1) // 2
    tied_x, tied_y, tied_both = _tied(x), _tied(y), _tied(x * (len(y) + 1) + y)
    if tied_x == pairs or tied_y == pairs:
        return None
    discordant = _exchanges(y[np.lexsort((y, x))])
    concordant = pairs - tied_x - tied_y + tied_both - discordant
    return float((concordant - discordant) / np.sqrt(float(pairs - tied_x) * float(pairs - tied_y)))


def _ranks(values: Sequence[float]) -> npt.NDArray[np.int64]:
    return np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _tied(values: npt.NDArray[np.int64]) -> int:
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _exchanges(values: npt.NDArray[np.int64]) -> int:
    """Returns how many pairs stand in descending order, by merging halves."""
    if len(values) < 64:
        return int(np.triu(values[:, None] > values[None, :]).sum())
    middle = len(values) // 2
    left, right = values[:middle], values[middle:]
    crossing = int((middle - np.searchsorted(np.sort(left), right, side="right")).sum())
    return _exchanges(left) + _exchanges(right) + crossing
