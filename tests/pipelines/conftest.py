"""What the tests of the pipelines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from pipelines.app.environment import CONF
from pipelines.app.overrides import register_resolvers
from pipelines.engine.schema import register_schema


@pytest.fixture
def composing() -> Iterator[None]:
    """Lets a test compose the project's own configurations."""
    register_schema()
    register_resolvers()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()
