"""`bort benchmark distill`: the usual distillation loop and this one, taken apart, on the same batches, turn by turn."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

from bort.settings import check_settings

from . import benchmark_tables
from .app.main import entry
from .engine.inputs import teacher_sources
from .engine.schema import Config
from .engine.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Trains in every variant, and compares times, memory and losses."""
    from bort.benchmarks.speed import compare_speed, speed_rows
    from bort.measure.environment import environment
    from bort.measure.statistics import ratio_of_medians

    config, speed = run.config, run.config.speed
    circumstances = environment(config.impl.threads)
    found = compare_speed(speed, config.teacher, config.impl, observer=run.observer)
    ratio = functools.partial(ratio_of_medians, confidence=speed.confidence, resamples=speed.resamples, seed=speed.seed)
    rows = speed_rows(found, ratio)
    for row in rows:
        run.tracked.metrics({f"{name}/{row['variant']}": row[name] for name in ("tokens_per_second", "loss_difference")})
    return {"rows": rows, **found, "environment": circumstances, "settings": asdict(speed)}


def check(config: Config) -> None:
    """Refuses settings that cannot be measured."""
    check_settings(config.speed, "speed")
    check_settings(config.impl, "impl")
    if config.speed.teacher is None:
        check_settings(config.teacher, "teacher")


STAGE = Stage(
    name="benchmark_distill",
    work=work,
    settings=lambda config: ("speed", "impl.device", "impl.threads", "impl.precision"),
    sources=lambda config: {} if config.speed.teacher else teacher_sources(config),
    show=benchmark_tables.distill,
    headline=lambda result: f"{result['student']} from {result['teacher']}: {result['rows'][-1]['faster']['ratio']:.1f}× as fast",
    check=check,
)
main = entry("benchmark_distill")

if __name__ == "__main__":
    main()
