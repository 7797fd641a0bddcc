"""Optuna's samplers learn from what the search has found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bort.search.storage.config import MemoryStorageConfig
from bort.search.strategies.config import Nsga2Config, RandomConfig, StrategyConfig, TpeConfig
from bort.search.worker import run_search
from tests.search.synthetic_tables import SMALL, table_problem

TRIALS, STARTUP = 24, 6


def proposed(folder: Path, config: StrategyConfig, seed: int) -> list[float]:
    found = run_search(table_problem(folder, SMALL), config, seed=seed, storage=MemoryStorageConfig(), directory=folder)
    return [candidate["w"] for candidate in found["candidates"]]


@pytest.mark.parametrize("config", [TpeConfig(trials=TRIALS, startup=STARTUP), Nsga2Config(trials=TRIALS, population=STARTUP)])
def test_what_is_proposed_after_the_start_is_better_than_chance(tmp_path: Path, config: StrategyConfig) -> None:
    drawn = [proposed(tmp_path, RandomConfig(trials=TRIALS), seed) for seed in range(3)]
    learned = [proposed(tmp_path, config, seed) for seed in range(3)]
    assert [row[:STARTUP] for row in learned] == [row[:STARTUP] for row in drawn]
    assert all(one[STARTUP:] != two[STARTUP:] for one, two in zip(learned, drawn, strict=True))
    if isinstance(config, TpeConfig):
        # NSGA-II seeks the whole front, so its W need not be better.
        assert np.mean([row[STARTUP:] for row in learned]) > np.mean([row[STARTUP:] for row in drawn])
