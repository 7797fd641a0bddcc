"""Pruning of Θ after an iteration: by longest common subsequence with the worst set, or by halving."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def common(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[Hashable]:
    """Return the longest common subsequence; of equally long ones that which takes the earliest elements of ``one``."""
    lengths = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for row in range(len(one) - 1, -1, -1):
        for column in range(len(other) - 1, -1, -1):
            if one[row] == other[column]:
                lengths[row][column] = lengths[row + 1][column + 1] + 1
            else:
                lengths[row][column] = max(lengths[row + 1][column], lengths[row][column + 1])
    found: list[Hashable] = []
    row = column = 0
    while row < len(one) and column < len(other):
        if one[row] == other[column]:
            found.append(one[row])
            row, column = row + 1, column + 1
        elif lengths[row][column + 1] >= lengths[row + 1][column]:
            column += 1
        else:
            row += 1
    return found


def prune_lcs(worst_first: Sequence[Sequence[Hashable]]) -> list[int]:
    """Return the positions of the sets to drop: the worst, and all that hold the longest sequence it shares with any other.

    The paper removes the sets "belonging to the longest common sequence, rooted at the first element" of the list sorted by
    accuracy; what exactly is compared is not recovered. Here a set is the sequence of its (name, value) pairs, and the first
    element is the worst set. Where it shares nothing with any other, it goes alone: at least one set goes every time.

    Args:
        worst_first: The sets, sorted by steering score upwards.
    """
    worst = worst_first[0]
    shared: list[Hashable] = []
    for other in worst_first[1:]:
        found = common(worst, other)
        # Of equally long ones the first is taken: that shared with the next worst set.
        if len(found) > len(shared):
            shared = found
    if not shared:
        return [0]
    return [place for place, one in enumerate(worst_first) if place == 0 or len(common(shared, one)) == len(shared)]


def prune_halving(worst_first: Sequence[Sequence[Hashable]]) -> list[int]:
    """Return the positions of the worse half, rounded up, so that at least one set goes every time."""
    return list(range((len(worst_first) + 1) // 2))


PRUNERS = {"lcs": prune_lcs, "halving": prune_halving}
