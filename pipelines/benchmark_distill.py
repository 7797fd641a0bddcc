"""`bort benchmark distill`: the usual distillation loop and this one, taken apart, on the same batches, turn by turn."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipelines import benchmark_tables
from pipelines.app import entry
from pipelines.inputs import teacher_sources
from pipelines.schema import Config
from pipelines.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Trains in every variant, and compares times, memory and losses."""
    from bort.distillation.speed import compare_speed
    from bort.measure.environment import environment

    config = run.config
    circumstances = environment(config.impl.threads)
    found = compare_speed(config.speed, config.teacher, config.impl, observer=run.observer)
    rows = [_row(name, found, config) for name in found["variants"]]
    for row in rows:
        run.tracked.metrics({f"{name}/{row['variant']}": row[name] for name in ("tokens_per_second", "loss_difference")})
    return {"rows": rows, **found, "environment": circumstances, "settings": asdict(config.speed)}


def _row(name: str, found: dict[str, Any], config: Config) -> dict[str, Any]:
    """Returns a variant's figures, and its ratios to the first one's, with intervals over rounds."""
    import numpy as np

    from bort.distillation.speed import PAPER_TOKENS
    from bort.measure.statistics import ratio_of_medians

    speed, variants = config.speed, found["variants"]
    mine, first = variants[name], next(iter(variants.values()))

    def ratio(*parts: str) -> dict[str, float]:
        series = [np.array(variant[parts[0]]) - sum(np.array(variant[part]) for part in parts[1:]) for variant in (first, mine)]
        return ratio_of_medians(*series, confidence=speed.confidence, resamples=speed.resamples, seed=speed.seed)

    rate = 1000.0 * found["tokens_per_step"] / float(np.median(mine["milliseconds"]))
    losses, reference = np.array(mine["losses"]), np.array(first["losses"])
    return {
        "variant": name,
        "tokens_per_second": rate,
        "milliseconds": float(np.median(mine["milliseconds"])),
        "processor_milliseconds": float(np.median(mine["processor_milliseconds"])),
        "faster": ratio("milliseconds"),
        "faster_by_processor": ratio("processor_milliseconds"),
        "student_step_faster": ratio("milliseconds", "teacher_milliseconds"),
        "peak_memory_bytes": mine["peak_memory_bytes"],
        "peak_device_memory_bytes": mine["peak_device_memory_bytes"],
        "memory_share": mine["peak_memory_bytes"] / first["peak_memory_bytes"],
        "mfu": mine["flops_per_token"] * rate / mine["peak_flops"] if mine["peak_flops"] else None,
        "loss": float(losses[-1]),
        "loss_difference": float(np.max(np.abs(losses - reference) / np.abs(reference))),
        "cache_pays_after_passes": _pays(found, variants.get("masked", first), mine) if name in ("cached", "compiled") else None,
        "hours_for_paper": PAPER_TOKENS / rate / 3600.0,
        "implementation": mine["implementation"],
    }


def _pays(found: dict[str, Any], live: dict[str, Any], mine: dict[str, Any]) -> float | None:
    """Returns after how many passes over the corpus, of one student or of several, the teacher's one pass has paid for itself."""
    from statistics import median

    passed = 1000.0 * found["cache"]["processor_seconds"] * found["tokens_per_step"] / found["cache"]["tokens"]
    saved = median(live["processor_milliseconds"]) - median(mine["processor_milliseconds"])
    return passed / saved if saved > 0 else None


def check(config: Config) -> None:
    """Refuses settings that cannot be measured."""
    config.speed.check()
    config.impl.check()
    if config.speed.teacher is None:
        config.teacher.check()


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
