"""The table that comes with Bort: whole, what its manifest says, and ready to be searched."""

from __future__ import annotations

from pathlib import Path

import pytest

from bort.errors import ConfigurationError
from bort.files import file_digest
from bort.search.bortbench import FOLDER, load, manifest
from bort.search.storage.config import MemoryStorageConfig
from bort.search.strategies.config import OseConfig
from bort.search.table import read_table
from bort.search.worker import run_search


def test_the_table_is_the_one_that_the_manifest_describes() -> None:
    record = manifest()
    assert file_digest(FOLDER / "bortbench.csv") == record["table_digest"]
    assert (FOLDER / "bortbench.csv").stat().st_size < 300_000
    table = read_table("bortbench")
    curves = table.curves.values()
    assert {tuple(curve) for curve in curves} == {tuple(record["steps"])}
    assert len(record["steps"]) >= 8
    seeds = {shape: sum(other == shape for other, _ in table.curves) for shape, _ in table.curves}
    assert len(seeds) == record["architectures"] >= 96
    assert sum(count >= 3 for count in seeds.values()) >= 24
    assert all(0 < error < float("inf") for curve in curves for error in curve.values())


def test_it_can_be_searched(tmp_path: Path) -> None:
    problem = load()
    found = run_search(problem, OseConfig(), storage=MemoryStorageConfig(), directory=tmp_path)
    assert found["exhaustive_steps"] == found["trained_steps"] == 96 * 240
    # What the search that made the table found.
    assert found["winner"]["name"] == "D2-A2-H128-I256"
    assert found["winner"]["w"] == pytest.approx(2.976756752065288, rel=1e-12)
    assert found["maximum_point"]["p"] == 22_565_376


def test_a_seed_that_only_some_architectures_have_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="lacks"):
        load(seed=1)
    with pytest.raises(ConfigurationError, match=r"error\.seed=9"):
        load(seed=9)
