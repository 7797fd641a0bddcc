"""`bort benchmark cost` and the engines of a search: what they read from a configuration, and what they refuse."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hydra import compose
from rich.console import Console

from bort.benchmarks.cost import fleet_cost, with_measured
from bort.errors import ConfigurationError
from bort.files import write_json
from bort.settings import check_settings
from pipelines import benchmark_cost, benchmark_tables
from pipelines.engine.schema import Config, typed
from pipelines.search import for_nodes

PAPER = ["experiment=paper", "fleet.teacher=24-16-1024-4096"]


pytestmark = pytest.mark.usefixtures("composing")


def composed(*overrides: str) -> Config:
    return typed(compose("benchmark_cost", overrides=list(overrides)))


def shown(found: object) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(found)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_papers_search_and_distillation_are_what_is_counted() -> None:
    config = composed(*PAPER)
    benchmark_cost.check(config)
    work = benchmark_cost.to_train(config, benchmark_cost._teacher(config))
    assert len(work.shapes) == len(set(work.shapes)) == 300
    assert work.distill_tokens == 44_100 * 1024 * 512
    assert work.candidate_tokens == 1024 * 1024 * 512
    assert work.masked == 77
    # A stride and a number of candidates choose among the ordered shapes.
    assert len(benchmark_cost.to_train(composed(*PAPER, "strategy.stride=7"), benchmark_cost._teacher(config)).shapes) == 43
    some = benchmark_cost.to_train(composed(*PAPER, "fleet.candidates=30"), benchmark_cost._teacher(config))
    assert some.shapes == work.shapes[::10]


def test_a_measured_device_stands_beside_the_assumed_ones(tmp_path: Path) -> None:
    row = {"variant": "cached", "tokens_per_second": 2000.0, "mfu": 0.25}
    result = {"rows": [row], "variants": {"cached": {"peak_flops": 4e10}}, "student": "D1-A6-H384-I288", "device": "cpu"}
    write_json(tmp_path / "result.json", result)
    config = composed(*PAPER, f"fleet.measured={tmp_path / 'result.json'}")
    teacher = benchmark_cost._teacher(config)
    told = shown(benchmark_tables.cost(fleet_cost(benchmark_cost.to_train(config, teacher), teacher, with_measured(config.fleet))))
    assert "300 candidates of 536,870,912 tokens; 23,121,100,800 tokens distilled" in told
    assert len([line for line in told.splitlines() if "cpu here" in line and line.rstrip(" │|").endswith("–")]) == 2
    assert len([line for line in told.splitlines() if "A100" in line and "[" in line]) == 2
    assert "assumptions" in told
    assert benchmark_cost.sources(config)["measured"]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("error=proxy", "error"),
        ("budget.seconds=60", "budget.seconds"),
        ("fleet.measured=nowhere.json", "fleet.measured"),
        ("fleet.devices.A100.price=[1]", "fleet.devices.A100.price"),
    ],
)
def test_what_cannot_be_reckoned_with_is_refused(override: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        benchmark_cost.check(composed(*(PAPER if override != "error=proxy" else PAPER[1:]), override))
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("impl.engine=dask", "impl.engine"),
        ("impl.ray.gpus=2", "impl.ray.gpus"),
        ("impl.ray.processors=0", "impl.ray.processors"),
        ("impl.ray.memory_megabytes=0", "impl.ray.memory_megabytes"),
        ("impl.ray.retries=-1", "impl.ray.retries"),
        ("impl.ray.address=''", "impl.ray.address"),
    ],
)
def test_settings_of_an_engine_are_refused_before_anything_is_run(override: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(composed(override).impl, "impl")
    assert caught.value.key == key


def test_nodes_are_told_no_secrets() -> None:
    config = composed("storage=postgres", "storage.url=postgresql://me:planted@host/db", "tracking.uri=http://me:planted@host:5000")
    assert "planted" not in repr(for_nodes(config))
