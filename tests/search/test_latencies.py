"""One contract for every latency."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bort.errors import BortError, ConfigurationError
from bort.quantities import LatencyConfig, LatencyInputs
from bort.settings import check_settings
from tests.search.choices import LATENCY_SETTINGS, SPACE

COUNTS = {"vocab_size": 60, "positions": 24, "token_types": 1}


@pytest.mark.parametrize("name", LATENCY_SETTINGS)
def test_every_latency_is_positive_and_states_its_circumstances(name: str, tmp_path: Path) -> None:
    config, shapes = LATENCY_SETTINGS[name], list(SPACE)
    check_settings(config, "latency")
    try:
        config.check_machine(COUNTS["positions"])
    except BortError as error:
        pytest.skip(str(error))
    latency = config.build(LatencyInputs(shapes, tmp_path, COUNTS))
    found = [latency.of(shape) for shape in shapes]
    assert all(value > 0 for value in found)
    assert [latency.of(shape) for shape in shapes] == found
    assert latency.circumstances["sequence_length"] == config.sequence_length
    assert {"unit", "batch"} <= latency.circumstances.keys()
    json.dumps(latency.circumstances)
    assert set(latency.percentiles) == (set(shapes) if config.measures else set())
    if config.measures:
        assert (tmp_path / latency.circumstances["file"]).exists()
        assert config.build(LatencyInputs(shapes, tmp_path, COUNTS)).of(shapes[0]) == found[0], "a measurement is read again"


def test_unknown_latencies_are_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        LatencyConfig(name="guess").build(LatencyInputs())
    assert (caught.value.key, caught.value.value) == ("latency", "guess")
    assert "operations" in caught.value.condition
