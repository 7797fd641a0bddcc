"""What the errors bought so far say of all others: a Gaussian process over shapes and learning curves.

Written for log e, with u = log2(last rung / steps) doublings before the last rung, the model of candidate c at u is

    log e(c, u) = curve(u) + surface(x_c) + u · slope(x_c) + bend(x_c, u) + offset_c + u · slope_c + bend_c(u) + noise,

where the functions of the shape's features x are smooth (a linear part and a squared exponential with a length for each feature),
bends are Brownian in u (so extrapolation grows less certain with every doubling), and offset, slope, bend and noise of the single
candidate are what its shape does not explain. At the last rung, u = 0, only curve, surface, offset and noise are left. A
candidate's curve may cross another's, by its shape or by chance; how far, is learnt with the other scales by maximising the
posterior. The freeze-thaw model (Swersky, Snoek and Adams 2014, arXiv:1406.3896) is the ancestor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Parts of the model besides the lengths: name, prior median of its standard deviation, and spread of the prior's logarithm.
PARTS = (
    ("surface", 0.20, 1.0),
    ("linear", 0.10, 1.0),
    ("slope", 0.02, 1.0),
    ("bend", 0.02, 1.0),
    ("own offset", 0.01, 1.0),
    ("own slope", 0.003, 1.0),
    ("own bend", 0.005, 1.0),
    ("noise", 0.003, 1.0),
)
#: Prior median of a length, in standard deviations of its feature, and spread of its logarithm.
LENGTH, LENGTH_SPREAD = 2.5, 0.7
#: The curve that all candidates share is known to nobody beforehand: variances of its level, its slope and its bend.
LEVEL, SHARED_SLOPE, SHARED_BEND = 4.0, 0.25, 0.01
#: The variance that is added for the arithmetic's sake.
JITTER = 1e-8
#: Data from which variances are found first.
FEW = 64


@dataclass(frozen=True)
class Observations:
    """Errors that were bought.

    Args:
        candidates: Row of each candidate in the features, [n].
        rungs: Place of the rung, [n].
        values: log e, [n].
    """

    candidates: Integers
    rungs: Integers
    values: Array

    def __len__(self) -> int:
        return len(self.values)


class CurveSurrogate:
    """The Gaussian process.

    Args:
        features: Features of every candidate, [N, F]; scaled to unit spread here.
        rungs: Step counts, ascending.
    """

    def __init__(self, features: Array, rungs: Sequence[int]) -> None:
        spread = features.std(axis=0)
        varied = spread > 0
        self._x: Array = (features[:, varied] - features[:, varied].mean(axis=0)) / spread[varied]
        steps = np.maximum(np.asarray(rungs, dtype=np.float64), 1.0)
        self.rungs = list(rungs)
        self._u: Array = np.log2(steps[-1] / steps)
        self._medians = np.log(np.array([*(median for _, median, _ in PARTS), *[LENGTH] * self._x.shape[1]]))
        self._spreads = np.array([*(spread for _, _, spread in PARTS), *[LENGTH_SPREAD] * self._x.shape[1]])
        self.parameters: Array = self._medians.copy()

    def fit(self, data: Observations) -> None:
        """Sets the scales to their most probable values, from the same start whatever was fitted before."""
        from scipy.optimize import minimize

        parts = self._parts(data)
        found = minimize(
            self._loss, self._medians, args=(data, parts), jac=True, method="L-BFGS-B", options={"maxiter": 60, "maxls": 20}
        )
        if np.all(np.isfinite(found.x)):
            self.parameters = found.x

    def _parts(self, data: Observations) -> dict[str, Any]:
        x, u = self._x[data.candidates], self._u[data.rungs]
        return {
            "square": (x[:, None, :] - x[None, :, :]) ** 2,
            "product": x @ x.T,
            "lines": np.outer(u, u),
            "bends": np.minimum.outer(u, u),
            "same": (data.candidates[:, None] == data.candidates[None, :]).astype(np.float64),
        }

    def _loss(self, parameters: Array, data: Observations, parts: dict[str, Any]) -> tuple[float, Array]:
        """Returns the negative logarithm of the posterior and its gradient."""
        from scipy.linalg import LinAlgError, cholesky
        from scipy.linalg.lapack import dpotri

        n = len(data)
        variance = np.exp(2.0 * parameters[: len(PARTS)])
        inverse = np.exp(-2.0 * parameters[len(PARTS) :])
        smooth = np.exp(-0.5 * parts["square"] @ inverse)
        lines, bends, same = parts["lines"], parts["bends"], parts["same"]
        pieces = (
            smooth, parts["product"], lines * smooth, bends * smooth, same, lines * same, bends * same, np.eye(n),
        )  # fmt: skip
        covariance = LEVEL + SHARED_SLOPE * lines + SHARED_BEND * bends + JITTER * np.eye(n)
        for scale, piece in zip(variance, pieces, strict=True):
            covariance = covariance + scale * piece
        values = data.values - data.values.mean()
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(parameters)
        # Only the lower triangle of the inverse is made.
        half = np.tril(dpotri(factor, lower=1)[0])
        whole = half + np.tril(half, -1).T
        weights = whole @ values
        from_prior = (parameters - self._medians) / self._spreads
        loss = 0.5 * values @ weights + np.log(np.diag(factor)).sum() + 0.5 * from_prior @ from_prior
        outer = whole - np.outer(weights, weights)
        gradient = np.empty_like(parameters)
        for index, (scale, piece) in enumerate(zip(variance, pieces, strict=True)):
            gradient[index] = scale * np.sum(outer * piece)
        shaped = outer * smooth * (variance[0] + variance[2] * lines + variance[3] * bends)
        gradient[len(PARTS) :] = 0.5 * np.tensordot(shaped, parts["square"], 2) * inverse
        return float(loss), gradient + from_prior / self._spreads

    def covariance(self, data: tuple[Integers, Integers], candidates: Integers, rungs: Integers) -> Array:
        """Returns the prior covariance of points with every candidate at every rung, without noise.

        Args:
            data: Candidates and rungs of n points.
            candidates: [M].
            rungs: [R].

        Returns:
            Covariances [n, M, R].
        """
        variance = np.exp(2.0 * self.parameters[: len(PARTS)])
        lengths = np.exp(self.parameters[len(PARTS) :])
        there, here = self._x[data[0]], self._x[candidates]
        a, b = there / lengths, here / lengths
        square = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * a @ b.T, 0.0)
        smooth = np.exp(-0.5 * square)
        product = variance[1] * (there @ here.T)
        same = data[0][:, None] == candidates[None, :]
        found = np.empty((len(there), len(here), len(rungs)))
        for place, rung in enumerate(rungs):
            lines, bends = self._u[data[1]] * self._u[rung], np.minimum(self._u[data[1]], self._u[rung])
            shared = LEVEL + SHARED_SLOPE * lines + SHARED_BEND * bends
            by_shape = variance[0] + variance[2] * lines + variance[3] * bends
            own = variance[4] + variance[5] * lines + variance[6] * bends
            found[:, :, place] = shared[:, None] + product + smooth * by_shape[:, None] + same * own[:, None]
        return found

    @property
    def noise(self) -> float:
        """The variance of a single error that nothing else explains."""
        return float(np.exp(2.0 * self.parameters[len(PARTS) - 1]))

    def condition(self, data: Observations) -> Posterior:
        """Returns what the data say under the scales at hand."""
        return Posterior(self, data)


class Posterior:
    """The Gaussian process, given data."""

    def __init__(self, model: CurveSurrogate, data: Observations) -> None:
        from scipy.linalg import cholesky, solve_triangular

        self._model, self._data = model, data
        self._solve = solve_triangular
        self._mean = float(data.values.mean())
        shapes, inverse = np.unique(data.candidates, return_inverse=True)
        every = model.covariance((data.candidates, data.rungs), shapes, np.arange(len(model.rungs)))
        self._covariance = every[:, inverse.reshape(-1), data.rungs] + (model.noise + JITTER) * np.eye(len(data))
        self._factor = cholesky(self._covariance, lower=True)
        self._weights = solve_triangular(self._factor, data.values - self._mean, lower=True)

    def ends(self, hurdles: Array, least: float) -> tuple[Array, Array]:
        """Returns what is expected of every candidate at the last rung, noise included.

        The fewer the data, the larger the variance: so it is first found from a few of them, and from all of them only where a
        candidate may fall below its hurdle even then. That makes thousands of candidates cheap.

        Args:
            hurdles: Values of log e, [N].
            least: Standard deviations from the mean, negative, below which a hurdle is out of reach.

        Returns:
            Means of log e and variances, which are too large where the hurdle is out of reach even so, [N] each.
        """
        from scipy.linalg import cholesky

        n, last = len(self._data), len(self._model.rungs) - 1
        everyone = np.arange(len(hurdles))
        cross = self._model.covariance((self._data.candidates, self._data.rungs), everyone, np.array([last]))[:, :, 0]
        means: Array = self._mean + self._solve(self._factor, self._weights, lower=True, trans="T") @ cross
        ends = np.full(len(hurdles), last)
        prior = self._diagonal((everyone, ends), (everyone, ends))
        few = np.sort(np.argsort(-self._data.rungs, kind="stable")[:FEW])
        factor = cholesky(self._covariance[np.ix_(few, few)], lower=True)
        variances = prior - (self._solve(factor, cross[few], lower=True) ** 2).sum(axis=0)
        if n > FEW:
            near = np.flatnonzero(hurdles - means > least * np.sqrt(np.maximum(variances, 0.0) + self._model.noise))
            variances[near] = prior[near] - (self._solve(self._factor, cross[:, near], lower=True) ** 2).sum(axis=0)
        return means, np.maximum(variances, 0.0) + self._model.noise

    def together(self, candidates: Integers) -> Array:
        """Returns the covariances of candidates' values at the last rung, noise included, [M, M]."""
        last = np.array([len(self._model.rungs) - 1])
        ends = np.repeat(last, len(candidates))
        cross = self._model.covariance((self._data.candidates, self._data.rungs), candidates, last)[:, :, 0]
        cross = self._solve(self._factor, cross, lower=True, check_finite=False)
        prior = self._model.covariance((candidates, ends), candidates, last)[:, :, 0]
        return prior - cross.T @ cross + (self._model.noise + JITTER) * np.eye(len(candidates))

    def curves(self, candidates: Integers, rungs: Integers) -> tuple[Array, Array, Array]:
        """Returns what is expected of candidates at rungs, noise included.

        Args:
            candidates: [M].
            rungs: [R], the last of them the one that counts.

        Returns:
            Means of log e [M, R], variances [M, R], and covariances with the same candidate's value at the last of ``rungs`` [M,
            R].
        """
        m, r = len(candidates), len(rungs)
        cross = self._model.covariance((self._data.candidates, self._data.rungs), candidates, rungs).reshape(-1, m * r)
        cross = self._solve(self._factor, cross, lower=True, check_finite=False)
        means = self._mean + (self._weights @ cross).reshape(m, r)
        cross = cross.reshape(-1, m, r)
        prior = np.empty((m, r))
        with_last = np.empty((m, r))
        # The prior is the same for every candidate but for the linear part, which is cheap to have one by one.
        for place in range(r):
            here = (candidates, np.full(m, rungs[place]))
            prior[:, place] = self._diagonal(here, here)
            with_last[:, place] = self._diagonal(here, (candidates, np.full(m, rungs[-1])))
        variances = np.maximum(prior - np.einsum("nmr,nmr->mr", cross, cross), 0.0) + self._model.noise
        covariances = with_last - np.einsum("nmr,nm->mr", cross, cross[:, :, -1])
        covariances[:, -1] = variances[:, -1]
        return means, variances, covariances

    def _diagonal(self, first: tuple[Integers, Integers], second: tuple[Integers, Integers]) -> Array:
        """Returns the prior covariance of pairs of one candidate's points, without noise."""
        variance = np.exp(2.0 * self._model.parameters[: len(PARTS)])
        u, v, x = self._model._u[first[1]], self._model._u[second[1]], self._model._x[first[0]]
        lines, bends = u * v, np.minimum(u, v)
        constant = LEVEL + variance[0] + variance[4] + (SHARED_SLOPE + variance[2] + variance[5]) * lines
        return constant + (SHARED_BEND + variance[3] + variance[6]) * bends + variance[1] * (x * x).sum(1)

    def left_out(self) -> Array:
        """Returns how many standard deviations each value lies from what the others predict for it, [n]."""
        whole = self._solve(self._factor, np.eye(len(self._data)), lower=True)
        weights = self._solve(self._factor, self._weights, lower=True, trans="T")
        return weights / np.sqrt((whole * whole).sum(axis=0))
