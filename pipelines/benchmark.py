"""`bort benchmark [kind]`: by default the latencies of teacher and student on this machine, measured turn by turn."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from pipelines import tables
from pipelines.app import entry
from pipelines.inputs import teacher_sources
from pipelines.stage import Run, Stage

#: What can be measured, and the module (and primary configuration) of the stage that does it; the chain knows ``latency`` alone.
KINDS = {
    "latency": "benchmark",
    "distill": "benchmark_distill",
    "objectives": "benchmark_objectives",
    "agora": "benchmark_agora",
    "search": "benchmark_search",
    "collect": "benchmark_collect",
}


def work(run: Run) -> dict[str, Any]:
    """Measures the teacher and the distilled student, each in every backend."""
    from bort.export import onnx_file
    from bort.measure import measure

    config = run.config
    models = {"teacher": config.teacher.path, "student": run.inputs["distill"]["student"]}
    result = measure(models, config=config.benchmark, converter=onnx_file, observer=run.observer)
    for row in result["rows"]:
        cell = f"{row['model']}.{row['backend']}.batch{row['batch']}.length{row['sequence_length']}"
        run.tracked.metrics({f"latency_ms.{cell}.{name}": row[f"{name}_ms"] for name in ("p50", "p90", "p99")})
    return result


STAGE = Stage(
    name="benchmark",
    work=work,
    settings=lambda config: ("benchmark", "impl.threads"),
    needs=lambda config: ("distill",),
    sources=teacher_sources,
    show=tables.benchmark,
    check=lambda config: config.benchmark.check(),
)


def main() -> None:
    """Runs the kind that the first word of the command line names, ``latency`` where it names none."""
    kind = "latency"
    if len(sys.argv) > 1 and sys.argv[1].isalpha():
        kind = sys.argv.pop(1)
    if kind not in KINDS:
        print(f"bort: {kind} is not a kind of benchmark; use one of {', '.join(KINDS)}.", file=sys.stderr)
        sys.exit(2)
    if kind == "latency":
        entry("benchmark")()
    else:
        importlib.import_module(f"pipelines.{KINDS[kind]}").main()


if __name__ == "__main__":
    main()
