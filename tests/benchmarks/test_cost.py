"""What a fleet is reckoned to cost, against operations counted here by hand, and what cannot be reckoned with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bort.architecture import Architecture
from bort.benchmarks.config import DeviceConfig, FleetConfig
from bort.benchmarks.cost import PAPER_TOKENS, Work, fleet_cost, with_measured
from bort.distillation.terms import LossConfig
from bort.errors import ConfigurationError, RecordError
from bort.files import write_json
from bort.settings import check_settings
from bort.teacher.shape import TeacherShape

TEACHER = TeacherShape(Architecture(24, 16, 1024, 4096), 50_265)
SHAPES = [Architecture(4, 8, 1024, 768), Architecture(2, 8, 512, 768)]
DEVICE = DeviceConfig(peak_teraflops=100.0, utilisation=[0.1, 0.2, 0.4], price=[1.0, 2.0, 3.0], source="made up")
FLEET = FleetConfig(
    devices={"made": DEVICE}, search_devices=4, distill_devices=8, engine_efficiency=0.8, distill_efficiency=[0.5, 0.8, 1.0],
    candidate_seconds=[1.0, 18.0, 36.0],
)  # fmt: skip
LOSS = LossConfig(masked_lm=0.1, soft_targets=0.5)
WORK = Work(SHAPES, candidate_tokens=10**9, distill_tokens=10**10, block_length=512, masked=77, loss=LOSS)


def layer(length: int, hidden: int, intermediate: int) -> float:
    """Multiply-adds of one encoder layer for a block: projections, products with the other tokens, the feed-forward part."""
    return 4 * length * hidden**2 + 2 * length**2 * hidden + 2 * length * hidden * intermediate


def by_hand(shape: Architecture, live: bool) -> float:
    """FLOP of a step for one token: the student forward and backward at the masked positions, the teacher's logits, the teacher."""
    head = 77 * (shape.hidden**2 + shape.hidden * 50_265)
    student = 3 * (shape.depth * layer(512, shape.hidden, shape.intermediate) + head)
    teacher = 77 * 1024 * 50_265 + (24 * layer(512, 1024, 4096) + 77 * 1024**2 if live else 0)
    return 2 * (student + teacher) / 512


def test_hours_and_prices_are_those_counted_by_hand() -> None:
    found = fleet_cost(WORK, TEACHER, FLEET)
    once = 2 * 24 * layer(512, 1024, 4096) / 512
    assert found["flop"]["teacher"] == pytest.approx(once * 1e9)
    assert found["flop"]["search"] == pytest.approx(sum(by_hand(shape, live=False) for shape in SHAPES) * 1e9)
    assert found["flop"]["distill"] == pytest.approx(by_hand(SHAPES[0], live=True) * 1e10)
    search, distill = found["rows"]
    amount = found["flop"]["search"] + found["flop"]["teacher"]
    # The cheapest: the highest utilisation, the least beside; two candidates of 1, 18 and 36 seconds.
    expected = [(amount / (100e12 * 3600 * used) + 2 * more / 3600) / 0.8 for used, more in ((0.4, 1), (0.2, 18), (0.1, 36))]
    assert search["device_hours"] == pytest.approx(expected)
    assert search["hours"] == pytest.approx([hours / 4 for hours in expected])
    assert search["price"] == pytest.approx([hours * price for hours, price in zip(expected, (1, 2, 3), strict=True)])
    hours = [found["flop"]["distill"] / (100e12 * 3600 * used) / kept for used, kept in ((0.4, 1.0), (0.2, 0.8), (0.1, 0.5))]
    assert distill["device_hours"] == pytest.approx(hours)
    assert distill["hours"] == pytest.approx([each / 8 for each in hours])
    assert found["paper"]["utilisation"] == pytest.approx(by_hand(SHAPES[0], live=True) * PAPER_TOKENS / (288 * 3600 * 125e12))


def test_one_device_loses_nothing_to_the_others() -> None:
    alone = fleet_cost(WORK, TEACHER, replace(FLEET, distill_devices=1))["rows"][1]
    assert alone["hours"] == alone["device_hours"]
    assert alone["device_hours"][2] == pytest.approx(alone["device_hours"][0] * 4), "only the utilisation is unknown"


def test_masked_lm_alone_needs_no_teacher() -> None:
    found = fleet_cost(replace(WORK, loss=LossConfig(masked_lm=1.0)), TEACHER, FLEET)
    assert found["flop"]["teacher"] == 0.0


@pytest.mark.parametrize(("mfu", "used"), [(0.25, 0.25), (1.2, 1.0)])
def test_a_measured_device_joins_the_assumed_ones(tmp_path: Path, mfu: float, used: float) -> None:
    rows = [
        {"variant": "usual", "tokens_per_second": 400.0, "mfu": 0.5},
        {"variant": "cached", "tokens_per_second": 2000.0, "mfu": mfu},
        # Of this one it is not known what its device could have done.
        {"variant": "compiled", "tokens_per_second": 3000.0, "mfu": None},
    ]
    variants = {"usual": {"peak_flops": 1.0}, "cached": {"peak_flops": 4e10}}
    write_json(tmp_path / "result.json", {"rows": rows, "variants": variants, "student": "D1-A6-H384-I288", "device": "cpu"})
    fleet = with_measured(replace(FLEET, measured=str(tmp_path / "result.json")))
    check_settings(fleet, "fleet")
    assert list(fleet.devices) == ["made", "cpu here"]
    device = fleet.devices["cpu here"]
    assert device.peak_teraflops == pytest.approx(0.04)
    assert device.utilisation == [used] * 3
    assert device.source == "measured: cached of D1-A6-H384-I288, 2,000 tokens/s"
    assert all(0 < price < 1e-6 for price in device.price)
    found = fleet_cost(WORK, TEACHER, fleet)
    assert [row["device"] for row in found["rows"]] == ["made", "made", "cpu here", "cpu here"]


def test_without_a_measurement_a_fleet_is_what_was_assumed(tmp_path: Path) -> None:
    assert with_measured(FLEET) is FLEET
    with pytest.raises(RecordError):
        with_measured(replace(FLEET, measured=str(tmp_path / "nowhere.json")))


@pytest.mark.parametrize("content", [{"rows": [{"mfu": None, "tokens_per_second": 2000.0}]}, {"rows": []}, {"figures": {}}])
def test_a_measurement_that_does_not_know_the_devices_peak_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    write_json(tmp_path / "result.json", content)
    with pytest.raises(ConfigurationError, match=r"fleet\.measured=.*mfu"):
        with_measured(replace(FLEET, measured=str(tmp_path / "result.json")))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"teacher": "24-16"}, "fleet.teacher"),
        ({"student": "big"}, "fleet.student"),
        ({"search_devices": 0}, "fleet.search_devices"),
        ({"candidates": 0}, "fleet.candidates"),
        ({"engine_efficiency": 1.1}, "fleet.engine_efficiency"),
        ({"distill_efficiency": [0.9, 0.5, 1.0]}, "fleet.distill_efficiency"),
        ({"candidate_seconds": [1.0, 2.0]}, "fleet.candidate_seconds"),
        ({"devices": {"x": replace(DEVICE, peak_teraflops=0.0)}}, "fleet.devices.x.peak_teraflops"),
        ({"devices": {"x": replace(DEVICE, utilisation=[0.1, 0.2, 1.2])}}, "fleet.devices.x.utilisation"),
        ({"devices": {"x": replace(DEVICE, price=[])}}, "fleet.devices.x.price"),
    ],
)
def test_what_cannot_be_reckoned_with_is_refused(change: dict[str, Any], key: str) -> None:
    check_settings(FLEET, "fleet")
    with pytest.raises(ConfigurationError) as caught:
        check_settings(replace(FLEET, **change), "fleet")
    assert caught.value.key == key
