"""The search space Ξ: the finite, ordered set of valid architectures, and its maximum point T."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from bort.architecture import ROBERTA_LARGE, Architecture
from bort.errors import BortError, ConfigurationError
from bort.search.config import SearchSpaceConfig
from bort.settings import check_value

#: Tells p or i of an architecture.
Count = Callable[[Architecture], float]


class SearchSpace:
    """Every valid combination of four lists, ordered by (p, i) and, where both are equal, by the shape itself.

    Args:
        depth: Numbers of layers.
        heads: Numbers of attention heads; combinations whose hidden size is not a multiple are left out.
        hidden: Hidden sizes.
        intermediate: Widths of the feed-forward layer.
        parameters: Tells p; by default :meth:`Architecture.parameters`.
        latency: Tells i; by default :meth:`Architecture.operations`.

    Attributes:
        enumerated: Combinations of the lists.
        skipped: Combinations that are left out, since the hidden size is not a multiple of the heads.
        distinct: Different ⟨D, H, I⟩; heads change neither p nor the operations.

    Raises:
        ConfigurationError: A list is empty or holds something else than positive whole numbers, or no combination is valid.
    """

    def __init__(
        self,
        depth: Sequence[int],
        heads: Sequence[int],
        hidden: Sequence[int],
        intermediate: Sequence[int],
        *,
        parameters: Count | None = None,
        latency: Count | None = None,
    ) -> None:
        self.values: dict[str, list[int]] = {}
        for name, numbers in (("depth", depth), ("heads", heads), ("hidden", hidden), ("intermediate", intermediate)):
            check_value(SearchSpaceConfig, name, list(numbers), f"search_space.{name}")
            self.values[name] = sorted(set(numbers))
        combinations = list(product(*self.values.values()))
        valid = [Architecture(*shape) for shape in combinations if shape[2] % shape[1] == 0]
        if not valid:
            raise ConfigurationError(
                "search_space.heads",
                self.values["heads"],
                f"a list with a divisor of one of search_space.hidden={self.values['hidden']}",
            )
        p = parameters or Architecture.parameters
        i = latency or Architecture.operations
        self._ordered = sorted(valid, key=lambda shape: (p(shape), i(shape), shape))
        self.enumerated = len(combinations)
        self.skipped = len(combinations) - len(valid)
        self.distinct = len({(shape.depth, shape.hidden, shape.intermediate) for shape in valid})

    @classmethod
    def from_config(
        cls, config: SearchSpaceConfig, *, parameters: Count | None = None, latency: Count | None = None
    ) -> SearchSpace:
        """Builds the space of a configuration; ``parameters`` and ``latency`` give the order, as for the class itself."""
        return cls(config.depth, config.heads, config.hidden, config.intermediate, parameters=parameters, latency=latency)

    def ordered_by(self, parameters: Count, latency: Count) -> SearchSpace:
        """Returns the same space in the order of other counts."""
        return SearchSpace(**self.values, parameters=parameters, latency=latency)

    def __len__(self) -> int:
        return len(self._ordered)

    def __iter__(self) -> Iterator[Architecture]:
        return iter(self._ordered)

    def __getitem__(self, index: int) -> Architecture:
        return self._ordered[index]

    def __contains__(self, shape: object) -> bool:
        return shape in self._ordered


def spread(shapes: Sequence[Architecture], count: int) -> list[Architecture]:
    """Returns ``count`` of the shapes, spread evenly over their order; where there are fewer, each as often as it takes."""
    return [shapes[number * len(shapes) // count] for number in range(count)]


def maximum_point(setting: str, space: SearchSpace, teacher: Architecture | None = None) -> Architecture:
    """Returns the maximum point T that ``search_space.maximum_point`` asks for.

    Args:
        setting: ``teacher``, ``largest`` or a shape.
        space: The search space.
        teacher: The teacher's shape; RoBERTa-large's, as in the paper, where there is no teacher.

    Raises:
        ConfigurationError: ``setting`` is none of the three.
    """
    if setting == "teacher":
        return teacher or ROBERTA_LARGE
    if setting == "largest":
        return space[len(space) - 1]
    try:
        return Architecture.parse(setting)
    except BortError as error:
        raise ConfigurationError(
            "search_space.maximum_point", setting, "teacher, largest, or a shape such as 24-16-1024-4096"
        ) from error


def check_dominates(point: Architecture, space: SearchSpace, parameters: Count, latency: Count, *, tolerance: float = 0.0) -> None:
    """Refuses a maximum point that some candidate exceeds in p or in i, for W would lose its meaning.

    Args:
        point: T.
        space: The candidates.
        parameters: Tells p.
        latency: Tells i.
        tolerance: Share by which a candidate's latency may lie above T's, where it is measured and not counted.

    Raises:
        ConfigurationError: Names the first candidate that is larger.
    """
    p_max, i_max = parameters(point), latency(point)
    for shape in space:
        for what, value, limit in (("parameters", parameters(shape), p_max), ("latency", latency(shape), i_max)):
            if value > limit * (1.0 + (tolerance if what == "latency" else 0.0)):
                raise ConfigurationError(
                    "search_space.maximum_point",
                    point,
                    f"at least as large as every candidate, but {shape} has {what} {value:,.6g} against {limit:,.6g}",
                )
