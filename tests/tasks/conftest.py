from __future__ import annotations

import pytest

from tests.official import write_all


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """The folder of all suites in the layouts of their downloads."""
    return write_all(tmp_path_factory.mktemp("official"))
