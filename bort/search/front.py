"""The Pareto front of (p, i, e), all to be small, and how much it dominates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


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

    The volume is summed in slabs along the third objective; within a slab it is the area under a staircase.

    Args:
        points: Rows of three objectives, all to be minimised; what lies beyond the reference counts nothing.
        reference: The corner up to which volume is counted.
    """
    corner = np.asarray(reference, dtype=np.float64)
    values = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    values = values[np.all(values < corner, axis=1)]
    if not len(values):
        return 0.0
    values = values[pareto_front(values.tolist())]
    values = values[np.argsort(values[:, 2], kind="stable")]
    volume = 0.0
    for index in range(len(values)):
        upper = values[index + 1, 2] if index + 1 < len(values) else corner[2]
        if upper > values[index, 2]:
            volume += _staircase(values[: index + 1, :2], corner[:2]) * (upper - values[index, 2])
    return float(volume)


def _staircase(points: Array, corner: Array) -> float:
    """Returns the area that points in two objectives dominate, up to a corner."""
    area, height = 0.0, corner[1]
    for x, y in points[np.lexsort((points[:, 1], points[:, 0]))]:
        if y < height:
            area += (corner[0] - x) * (height - y)
            height = y
    return float(area)


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
