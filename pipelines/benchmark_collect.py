"""`bort benchmark collect`: puts the tables of finished searches together into one that `bort benchmark search` replays."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import ConfigurationError
from bort.settings import check_settings

from . import benchmark_tables
from .app.main import entry
from .engine.schema import Config
from .engine.stage import Run, Stage

if TYPE_CHECKING:
    from bort.benchmarks.collect import Collection


def work(run: Run) -> dict[str, Any]:
    """Writes the table, and what it was made from."""
    from hydra.core.hydra_config import HydraConfig

    from bort.benchmarks.collect import collect
    from bort.files import file_digest, write_json
    from bort.search.table import TABLE, write_table

    config = run.config.collect
    found = collect([Path(folder) for folder in config.searches])
    rows: list[dict[str, str]] = found.rows
    latency = _latency(run, found) if config.latency else None
    if latency:
        rows = found.with_latency({shape: latency["rows"][str(shape)]["p50_ms"] for shape in found.shapes})
    target = run.directory / TABLE
    write_table(target, rows)
    result: dict[str, Any] = {
        "table": str(config.table or target),
        "table_digest": file_digest(target),
        "rows": len(rows),
        "columns": list(rows[0]),
        "architectures": len(found.shapes),
        "several_seeds": sum(len(seeds) > 1 for seeds in found.seeds.values()),
        "seeds": sorted({seed for seeds in found.seeds.values() for seed in seeds}),
        "steps": sorted({int(row["steps"]) for row in rows}),
        "maximum_point": str(found.maximum_point),
        "embedding_rows": found.embedding_rows,
        "command": shlex.join(["bort", "benchmark", "collect", *HydraConfig.get().overrides.task]),
        "searches": found.searches,
        "latency": latency,
    }
    if config.table:
        write_table(Path(config.table), rows)
        write_json(Path(config.table).with_name("manifest.json"), {"benchmark": "search", **result})
    run.tracked.artifact(target)
    return result


def _latency(run: Run, found: Collection) -> dict[str, Any]:
    """Measures every architecture, and returns what is worth keeping of it."""
    from bort.measure.config import BenchmarkConfig
    from bort.measure.shapes import measure_shapes

    config = BenchmarkConfig(backends=["eager"], batch=[1], sequence_length=[128], repeats=run.config.collect.repeats, threads=1)
    measured = measure_shapes(
        [*found.shapes, found.maximum_point],
        config=config,
        path=run.directory / "latencies.json",
        # Time does not depend on the rows of the embeddings, memory does.
        counts={"vocab_size": 1024},
        observer=run.observer,
    )
    kept = ("identity", "rows", "environment", "others_share", "busy", "seconds")
    return {key: measured[key] for key in kept}


def sources(config: Config) -> dict[str, str]:
    """Returns the digest of each search's table."""
    from bort.files import file_digest
    from bort.search.table import TABLE

    return {folder: file_digest(path) for folder in config.collect.searches if (path := Path(folder) / TABLE).is_file()}


def check(config: Config) -> None:
    """Refuses searches that do not fit together, and a table that would lie among the files of a stage."""
    from bort.benchmarks.collect import collect
    from bort.files import read_json

    check_settings(config.collect, "collect")
    collect([Path(folder) for folder in config.collect.searches])
    if config.collect.table:
        beside = Path(config.collect.table).with_name("manifest.json")
        if beside.exists() and "stage" in read_json(beside):
            raise ConfigurationError("collect.table", config.collect.table, f"in another folder, as {beside} is a stage's")


STAGE = Stage(
    name="benchmark_collect",
    work=work,
    settings=lambda config: ("collect",),
    sources=sources,
    show=benchmark_tables.collect,
    headline=lambda result: f"{result['rows']:,} errors of {result['architectures']} architectures",
    check=check,
)
main = entry("benchmark_collect")

if __name__ == "__main__":
    main()
