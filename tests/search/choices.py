"""The settings under which the contract suites run each registered choice: a new choice adds one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bort.distillation.estimator_config import DistillErrorConfig, SupernetErrorConfig
from bort.export.latency_config import OnnxLatencyConfig
from bort.measure.latency_config import CpuLatencyConfig, GpuLatencyConfig
from bort.quantities import ErrorConfig, LatencyConfig, OperationsLatencyConfig
from bort.search.estimator_config import ProxyErrorConfig, TableErrorConfig
from bort.search.space import SearchSpace
from bort.search.storage.config import JournalStorageConfig, PostgresStorageConfig, SqliteStorageConfig, StorageConfig
from bort.search.strategies.config import BoundConfig, Nsga2Config, OseConfig, RandomConfig, StrategyConfig, TpeConfig

#: For a space of 24 candidates.
STRATEGY_SETTINGS: dict[str, StrategyConfig] = {
    "bound": BoundConfig(budget=0.3),
    "ose": OseConfig(stride=3),
    "random": RandomConfig(trials=9),
    "tpe": TpeConfig(trials=9, startup=4),
    "nsga2": Nsga2Config(trials=9, population=4),
}

#: The space of the contract of errors.
SPACE = SearchSpace([1, 2], [2], [8, 16], [12])


def table(folder: Path, seed: int) -> TableErrorConfig:
    """A table of the space, written to a folder."""
    rows = ["depth,heads,hidden,intermediate,steps,error"]
    for number, shape in enumerate(SPACE):
        numbers = f"{shape.depth},{shape.heads},{shape.hidden},{shape.intermediate}"
        rows += [f"{numbers},{steps},{(1 + seed) / (steps + number)}" for steps in (2, 4)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "errors.csv").write_text("\n".join(rows))
    return TableErrorConfig(path=str(folder / "errors.csv"))


#: Of a folder that workers share, and a seed; another seed gives other errors.
ERROR_SETTINGS: dict[str, Callable[[Path, int], ErrorConfig]] = {
    "distill": lambda folder, seed: DistillErrorConfig(steps=4, rungs=2, measure="relation_kl"),
    "supernet": lambda folder, seed: SupernetErrorConfig(steps=4, samples=1, checkpoint_every=2, measure="relation_kl"),
    "table": table,
    "proxy": lambda folder, seed: ProxyErrorConfig(exponent=0.1 + seed / 100),
}

LATENCY_SETTINGS: dict[str, LatencyConfig] = {
    "operations": OperationsLatencyConfig(sequence_length=8),
    "cpu": CpuLatencyConfig(sequence_length=8, repeats=5, warmup=1),
    "gpu": GpuLatencyConfig(sequence_length=8, repeats=5, warmup=1),
    "onnx": OnnxLatencyConfig(sequence_length=8, repeats=5, warmup=1),
}

STORAGE_SETTINGS: dict[str, Callable[[pytest.FixtureRequest, str], StorageConfig]] = {
    "journal": lambda request, study: JournalStorageConfig(study=study),
    "sqlite": lambda request, study: SqliteStorageConfig(study=study),
    "postgres": lambda request, study: PostgresStorageConfig(url=request.getfixturevalue("postgres_url"), study=study),
}
