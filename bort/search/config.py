"""Settings of a search: its space and its objective."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, MinLen

from bort.errors import ConfigurationError
from bort.settings import DISTINCT, OneOf, shape_or

ERROR_SCALES = ("reciprocal", "relative", "complement")


@dataclass
class SearchSpaceConfig:
    """The search space Ξ: every valid combination of the lists."""

    depth: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=list)
    """Numbers of layers."""

    heads: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=list)
    """Numbers of attention heads; combinations whose hidden size is not a multiple are skipped."""

    hidden: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=list)
    """Hidden sizes."""

    intermediate: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = field(default_factory=list)
    """Widths of the feed-forward layer."""

    maximum_point: Annotated[str, shape_or("teacher", "largest")] = "teacher"
    """T, which fixes the scale of W: ``teacher`` (its shape, or 24-16-1024-4096 without a teacher), ``largest``
    (of the space), or a shape such as ``24-16-1024-4096``.
    """


@dataclass
class SearchConfig:
    """Limits on the winner, Θ, and the scale of W."""

    max_parameters: Annotated[int, Ge(1)] | None = None
    """Largest p allowed; no limit if ``null``."""

    max_operations: Annotated[int, Ge(1)] | None = None
    """Largest number of multiply-adds allowed; no limit if ``null``."""

    max_latency_ms: Annotated[float, Gt(0)] | None = None
    """Largest measured latency allowed, in milliseconds; no limit if ``null``. Requires a measured latency."""

    thetas: Annotated[list[dict[str, Any]], MinLen(1), DISTINCT] = field(default_factory=lambda: [{}])
    """Θ, the hyperparameter sets: training settings that replace the defaults. Each is tried with each
    architecture.
    """

    error_scale: Annotated[str, OneOf(*ERROR_SCALES)] = "reciprocal"
    """How e enters W: ``reciprocal`` 1/e, ``relative`` e(T)/e, or ``complement`` 1 − e, which is 0 for e >= 1."""

    maximum_point_error: Annotated[float, Gt(0)] | None = None
    """e(T), for ``relative``."""

    def check(self, key: str) -> None:
        """Refuse a relative scale without its e(T)."""
        if self.error_scale == "relative" and self.maximum_point_error is None:
            accepted = f"a number > 0 with {key}.error_scale=relative"
            raise ConfigurationError(f"{key}.maximum_point_error", None, accepted)
