"""How the engines are compared, on waits so short that only the arithmetic can be tested."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bort.benchmarks import workers as scaling
from bort.benchmarks.config import ScalingConfig
from bort.errors import ConfigurationError
from bort.settings import check_settings


@pytest.mark.slow
def test_workers_share_the_waits() -> None:
    found = scaling.measure_scaling(ScalingConfig(engines=["local"], workers=[1, 2], candidates=4, seconds=0.2, rounds=1))
    one, two = found["rows"]
    assert (one["engine"], one["workers"], two["workers"]) == ("local", 1, 2)
    # Four waits of 0.2 seconds: no search of one process is quicker, and no two processes take less than half of that.
    assert one["seconds"][0] >= 0.8
    assert two["seconds"][0] >= 0.4
    for row in found["rows"]:
        assert row["efficiency"] == pytest.approx(0.8 / (row["workers"] * row["seconds"][0]))
        assert 0 < row["efficiency"] <= 1
    assert two["speedup"] == pytest.approx(one["seconds"][0] / two["seconds"][0])


def test_speedup_and_efficiency_are_of_the_median_round(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {("local", 2): iter([8.0, 4.0, 5.0]), ("local", 4): iter([2.0, 9.0, 2.5])}
    monkeypatch.setattr(scaling, "_search", lambda engine, workers, _: next(taken[engine, workers]))
    found = scaling.measure_scaling(ScalingConfig(engines=["local"], workers=[2, 4], candidates=8, seconds=1.0))
    assert [row["seconds"] for row in found["rows"]] == [[8.0, 4.0, 5.0], [2.0, 9.0, 2.5]]
    assert [row["efficiency"] for row in found["rows"]] == [8 / (2 * 5.0), 8 / (4 * 2.5)]
    assert [row["speedup"] for row in found["rows"]] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"engines": ["dask"]}, "scaling.engines"),
        ({"workers": [0]}, "scaling.workers"),
        ({"candidates": 2}, "scaling.candidates"),
        ({"seconds": 0.0}, "scaling.seconds"),
        ({"rounds": 0}, "scaling.rounds"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(replace(ScalingConfig(), **change), "scaling")
    assert caught.value.key == key
