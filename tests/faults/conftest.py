"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.small_disk import SmallDisk, mounted


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    """A disk that is small."""
    with mounted() as disk:
        yield disk
