"""Tables drawn from a measured one, so that replays of a strategy that draws nothing differ by what training scatters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bort.architecture import Architecture
from bort.randomness import keyed_generator
from bort.search.table import ErrorTable
from bort.search.w import usable

Array = npt.NDArray[np.float64]
_STREAM = 0x7461626C65


class SeedDraws:
    """Draws for every architecture the curve that training it with another seed might have given.

    An architecture that was measured with several seeds gets the whole curve of one of them. One that was measured with a single
    seed gets its own curve, times the deviation of another architecture's: an architecture with n > 1 seeds is drawn, then one of
    its n curves of log e less their mean, widened by √(n/(n − 1)), since deviations from a mean of so few are too small. Whole
    curves are drawn, so errors at neighbouring rungs go on deviating together.

    Each architecture is drawn by itself. A real search trains all of them on the same blocks, so part of what its seed does falls
    on all alike and cannot change their order: drawn tables scatter at least as much as real ones.

    Args:
        table: The measured errors.
        shapes: The architectures to draw for.
        rungs: The steps to draw at.
        errors: The errors that an architecture with a single seed is drawn around, by architecture and steps.
    """

    def __init__(
        self,
        table: ErrorTable,
        shapes: Sequence[Architecture],
        rungs: Sequence[int],
        errors: dict[tuple[Architecture, int], float],
    ) -> None:
        self._shapes, self._rungs = list(shapes), list(rungs)
        self._base = np.array([[errors[shape, steps] for steps in rungs] for shape in shapes])
        by_shape: dict[Architecture, list[Array]] = {}
        for (shape, _), curve in sorted(table.curves.items(), key=lambda item: (item[0][0], item[0][1] or 0)):
            if all(steps in curve for steps in rungs):
                by_shape.setdefault(shape, []).append(np.array([curve[steps] for steps in rungs]))
        #: The curves of each architecture that has several, by its place, [n, R].
        self._several = {place: np.stack(by_shape[shape]) for place, shape in enumerate(shapes) if len(by_shape.get(shape, [])) > 1}
        self._deviations = [_deviations(curves) for curves in self._several.values() if all(map(usable, curves.ravel()))]

    @property
    def several(self) -> int:
        """How many architectures have several seeds; where none has, every draw is the measured table."""
        return len(self._several)

    @property
    def scatter(self) -> list[float]:
        """The standard deviation of log e between seeds at each rung, pooled over the architectures that have several."""
        if not self._deviations:
            return []
        return [float(value) for value in np.sqrt(np.mean(np.concatenate(self._deviations) ** 2, axis=0))]

    def draw(self, seed: int) -> dict[tuple[Architecture, int], float]:
        """Returns the errors of one draw, by architecture and steps; the same seed gives the same."""
        generator = keyed_generator(seed, _STREAM)
        drawn = self._base.copy()
        for place in range(len(self._shapes)):
            if place in self._several:
                drawn[place] = generator.choice(self._several[place])
            elif self._deviations:
                donor = self._deviations[generator.integers(len(self._deviations))]
                drawn[place] *= np.exp(generator.choice(donor))
        return {
            (shape, steps): float(drawn[place, rung])
            for place, shape in enumerate(self._shapes)
            for rung, steps in enumerate(self._rungs)
        }


def _deviations(curves: Array) -> Array:
    """Returns log e less its mean over seeds, widened to be as large as deviations from the true mean, [n, R]."""
    logs = np.log(curves)
    widened: Array = (logs - logs.mean(axis=0)) * np.sqrt(len(logs) / (len(logs) - 1))
    return widened
