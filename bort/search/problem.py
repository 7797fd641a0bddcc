"""The search problem: the candidates with their exact p and i, the limits, and W."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bort.architecture import SEQUENCE_LENGTH, Architecture
from bort.candidate import Estimator, Theta, fingerprint
from bort.errors import BortError
from bort.files import digest
from bort.search.config import SearchConfig
from bort.search.space import SearchSpace, check_dominates
from bort.search.w import ErrorScale, savings, w
from bort.settings import check_settings

#: A measured median scatters: a candidate within this share above T's latency counts as being as fast as T.
LATENCY_TOLERANCE = 0.05


@dataclass(frozen=True)
class Candidate:
    """One architecture with its θ, and its properties before training.

    Args:
        index: Position in the ordered list of all candidates; of equal W, the lowest index wins.
        architecture: The shape.
        theta: Training settings that replace the defaults.
        parameters: p, exact.
        latency: i, in the unit of the problem's latency.
        savings: The factors of W before the error, see :func:`bort.search.w.savings`.
        fingerprint: Digest of architecture and θ.
    """

    index: int
    architecture: Architecture
    theta: Theta
    parameters: int
    latency: float
    savings: float
    fingerprint: str


@dataclass(frozen=True)
class Problem:
    """A search problem.

    Args:
        space: The search space Ξ.
        maximum_point: T.
        parameters: Function from an architecture to p.
        latency: Deterministic function from an architecture to i.
        estimator: Source of e.
        search: Θ, the limits and the scale of e.
        latency_name: ``operations`` (multiply-adds) or the name of a measured latency (milliseconds).
        fingerprint: Digests of everything else that the errors depend on, by name (``teacher``, ``corpus``), or one digest of all.
        circumstances: How latency was counted or measured: unit and sequence length; if measured, also batch, threads,
            processor, load and versions.
        percentiles: Percentiles of a measured latency by architecture, in milliseconds.
        reference: Errors of full trainings by architecture, for comparison.
    """

    space: SearchSpace
    maximum_point: Architecture
    parameters: Callable[[Architecture], int]
    latency: Callable[[Architecture], float]
    estimator: Estimator
    search: SearchConfig
    latency_name: str = "operations"
    fingerprint: str | Mapping[str, str] = ""
    circumstances: Mapping[str, Any] = field(default_factory=dict)
    percentiles: Mapping[Architecture, Mapping[str, float]] = field(default_factory=dict)
    reference: Mapping[Architecture, float] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a problem that cannot be searched, before anything is trained.

        Raises:
            BortError: T does not dominate every candidate, a setting is unusable, or no candidate keeps within the limits.
        """
        check_settings(self.search, "search")
        if self.search.max_latency_ms is not None and not self.measured:
            raise BortError("search.max_latency_ms needs a measured latency; with latency=operations, use search.max_operations.")
        tolerance = LATENCY_TOLERANCE if self.measured else 0.0
        check_dominates(self.maximum_point, self.space, self.parameters, self.latency, tolerance=tolerance)
        if not self.feasible:
            raise BortError(self._nearest())

    @property
    def measured(self) -> bool:
        """Whether i is a time in milliseconds rather than a count of operations."""
        return self.latency_name != "operations"

    def operations(self, architecture: Architecture) -> int:
        """Return the multiply-adds of an architecture at the sequence length of the problem, 128 by default."""
        if not self.measured:
            return int(self.latency(architecture))
        return architecture.operations(self.circumstances.get("sequence_length", SEQUENCE_LENGTH))

    @cached_property
    def maximum(self) -> tuple[int, float]:
        """p(T) and i(T)."""
        return self.parameters(self.maximum_point), self.latency(self.maximum_point)

    @cached_property
    def scale(self) -> ErrorScale:
        """The last factor of W."""
        return ErrorScale(self.search.error_scale, self.search.maximum_point_error)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every candidate, ordered by (p, i), then by shape, then by θ, including those beyond the limits."""
        p_max, i_max = self.maximum
        candidates: list[Candidate] = []
        for shape in self.space.ordered_by(self.parameters, self.latency):
            p, i = self.parameters(shape), self.latency(shape)
            saved = savings(p, i, p_max, i_max)
            for theta in self.search.thetas:
                candidates.append(Candidate(len(candidates), shape, dict(theta), p, i, saved, fingerprint(shape, theta)))
        return candidates

    @cached_property
    def feasible(self) -> list[Candidate]:
        """The candidates within the limits, in order."""
        return [candidate for candidate in self.candidates if not any(excess > 0 for excess in self.excesses(candidate).values())]

    @cached_property
    def by_fingerprint(self) -> dict[str, Candidate]:
        """The candidates by their fingerprint."""
        return {candidate.fingerprint: candidate for candidate in self.candidates}

    def excesses(self, candidate: Candidate) -> dict[str, float]:
        """Return by how much a candidate exceeds each limit that is set, as a share of the limit; <= 0 is within."""
        values = {
            "max_parameters": (candidate.parameters, self.search.max_parameters),
            "max_operations": (self.operations(candidate.architecture), self.search.max_operations),
            "max_latency_ms": (candidate.latency, self.search.max_latency_ms),
        }
        return {name: value / limit - 1.0 for name, (value, limit) in values.items() if limit is not None}

    def w(self, candidate: Candidate, error: float) -> float:
        """Return W of a candidate with this error."""
        return w(candidate.savings, error, self.scale)

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the result, by name: a study resumes only if all of it is equal."""
        others = {"problem": self.fingerprint} if isinstance(self.fingerprint, str) else dict(self.fingerprint)
        return {
            **{f"search_space.{name}": values for name, values in self.space.values.items()},
            "search_space.maximum_point": str(self.maximum_point),
            "parameters": digest([candidate.parameters for candidate in self.candidates])[:16],
            "latency": self.latency_name,
            "latency.values": digest([candidate.latency for candidate in self.candidates])[:16],
            "error": f"{self.estimator.name} {self.estimator.fingerprint}",
            "error.steps": list(self.estimator.rungs),
            "search.thetas": [dict(theta) for theta in self.search.thetas],
            "search.max_parameters": self.search.max_parameters,
            "search.max_operations": self.search.max_operations,
            "search.max_latency_ms": self.search.max_latency_ms,
            "search.error_scale": self.search.error_scale,
            "search.maximum_point_error": self.search.maximum_point_error,
            **others,
        }

    def _nearest(self) -> str:
        nearest = min(self.candidates, key=lambda candidate: (max(self.excesses(candidate).values()), candidate.index))
        beyond = [
            f"search.{name}={getattr(self.search, name)} by {excess:.1%}"
            for name, excess in self.excesses(nearest).items()
            if excess > 0
        ]
        return (
            f"None of the {len(self.candidates)} candidates keeps within the limits; the nearest, {nearest.architecture} "
            f"({nearest.parameters:,} parameters, latency {nearest.latency:,.6g}), exceeds {' and '.join(beyond)}."
        )
