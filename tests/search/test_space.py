"""The search space and its maximum point."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bort.architecture import BORT, ROBERTA_LARGE, Architecture
from bort.errors import ConfigurationError
from bort.search.config import SearchSpaceConfig
from bort.search.space import SearchSpace, check_dominates, maximum_point, spread
from tests.search.synthetic_tables import PAPER


def test_the_papers_space_has_its_published_counts() -> None:
    space = SearchSpace.from_config(SearchSpaceConfig(**PAPER))
    assert (space.enumerated, len(space), space.distinct, space.skipped) == (360, 300, 90, 60)
    assert BORT in space
    assert ROBERTA_LARGE not in space


def test_order_is_by_parameters_then_operations_then_shape() -> None:
    shapes = list(SearchSpace(**PAPER))
    keys = [(shape.parameters(), shape.operations(), shape) for shape in shapes]
    assert keys == sorted(keys)
    assert shapes == list(SearchSpace(**{name: values[::-1] * 2 for name, values in PAPER.items()}))


def test_order_follows_the_counts_that_are_given() -> None:
    space = SearchSpace(**PAPER)
    by_operations = space.ordered_by(Architecture.operations, Architecture.parameters)
    operations = [shape.operations() for shape in by_operations]
    assert operations == sorted(operations)
    assert set(by_operations) == set(space)


@pytest.mark.parametrize("name", ["depth", "heads", "hidden", "intermediate"])
@pytest.mark.parametrize("values", [[], [0], [-2], [2, True], [2.5]])
def test_lists_that_hold_something_else_are_refused(name: str, values: list[int]) -> None:
    with pytest.raises(ConfigurationError, match=rf"search_space\.{name}=.*integer"):
        SearchSpace(**{**PAPER, name: values})


def test_a_space_without_a_valid_tuple_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"search_space\.heads=\[5\].*divisor"):
        SearchSpace([2], [5], [512], [256])


def test_shapes_are_spread_evenly_over_their_order() -> None:
    shapes = list(SearchSpace(**PAPER))
    assert spread(shapes, 300) == shapes
    assert spread(shapes, 30) == shapes[::10]
    places = [shapes.index(shape) for shape in spread(shapes, 7)]
    assert len(places) == 7
    assert places[0] == 0
    assert {after - before for before, after in pairwise(places)} == {42, 43}
    assert spread(shapes[:2], 4) == [shapes[0], shapes[0], shapes[1], shapes[1]]


def test_maximum_point() -> None:
    space = SearchSpace(**PAPER)
    teacher = Architecture(12, 12, 768, 3072)
    assert maximum_point("teacher", space) == ROBERTA_LARGE
    assert maximum_point("teacher", space, teacher) == teacher
    assert maximum_point("largest", space) == Architecture(12, 16, 1024, 3072)
    assert maximum_point("24-16-1024-4096", space) == ROBERTA_LARGE
    with pytest.raises(ConfigurationError, match=r"search_space\.maximum_point=huge"):
        maximum_point("huge", space)


def test_a_maximum_point_that_does_not_dominate_is_refused() -> None:
    space = SearchSpace(**PAPER)
    for name in ("teacher", "largest"):
        check_dominates(maximum_point(name, space), space, Architecture.parameters, Architecture.operations)
    with pytest.raises(ConfigurationError, match=r"at least as large as every candidate, but D\d+-.* has (parameters|latency)"):
        check_dominates(BORT, space, Architecture.parameters, Architecture.operations)
    # Larger in parameters, but not in operations.
    wide = Architecture(1, 16, 4096, 4096)
    with pytest.raises(ConfigurationError, match="has latency"):
        check_dominates(wide, space, Architecture.parameters, Architecture.operations)
