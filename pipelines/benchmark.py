"""`bort benchmark [kind]`: by default the latencies of teacher and student, or of any other models, measured turn by turn."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bort.files import digest, file_digest
from bort.settings import check_settings

from . import benchmark_tables
from .app.main import entry
from .engine.inputs import model_sources, teacher_sources
from .engine.schema import Config
from .engine.stage import Run, Stage

#: What can be measured, and the module (and primary configuration) of the stage that does it; the chain knows ``latency`` alone.
KINDS = {
    "latency": "benchmark",
    "distill": "benchmark_distill",
    "objectives": "benchmark_objectives",
    "agora": "benchmark_agora",
    "search": "benchmark_search",
    "collect": "benchmark_collect",
    "cost": "benchmark_cost",
    "workers": "benchmark_workers",
}
#: What has been measured so far; a benchmark that was killed goes on from it.
BLOCKS, SERVING = "blocks.json", "serving.json"


def work(run: Run) -> dict[str, Any]:
    """Measures every model on every backend, and draws them."""
    from bort.export.convert import onnx_file, quantise
    from bort.measure.latency import measure
    from bort.report.latency_figures import latency_figures

    config = run.config
    models = dict(zip(config.benchmark.models, _places(run), strict=True))
    result = measure(
        models,
        config=config.benchmark,
        converter=onnx_file,
        quantiser=quantise,
        path=run.directory / BLOCKS,
        observer=run.observer,
    )
    if config.benchmark.mixes:
        from bort.benchmarks.serving import measure_serving

        result["serving"] = measure_serving(models, config=config.benchmark, path=run.directory / SERVING, observer=run.observer)
        for row in result["serving"]:
            name = f"{row['model']}.{row['backend']}.{row['mix']}.{row['way'].replace(' ', '_')}"
            run.tracked.metrics({f"serving_ms/{name}.p50": row["p50_ms"]})
    for row in result["rows"]:
        cell = f"{row['model']}.{row['backend']}.batch{row['batch']}.length{row['sequence_length']}"
        run.tracked.metrics({f"latency_ms/{cell}.{name}": row[f"{name}_ms"] for name in ("p50", "p90", "p99")})
    for drawing in latency_figures(result):
        drawing.write(run.directory)
        run.tracked.artifact(run.directory / f"{drawing.name}.png")
    return result


def _places(run: Run) -> list[str]:
    """Returns where each model is: teacher and student are those of the run."""
    own = {"teacher": run.config.teacher.path}
    if "distill" in run.inputs:
        own["student"] = run.inputs["distill"]["student"]
    return [own.get(name, name) for name in run.config.benchmark.models]


def sources(config: Config) -> Mapping[str, str]:
    """Returns the digests of the models that no stage made."""
    found: dict[str, str] = {}
    for name in config.benchmark.models:
        if name == "teacher":
            found |= teacher_sources(config)
        elif Path(name).is_file():
            found[name] = digest(file_digest(name))
        elif Path(name).is_dir():
            found |= model_sources(name, str(Path(name) / "transformers" if (Path(name) / "transformers").is_dir() else name))
    return found


STAGE = Stage(
    name="benchmark",
    work=work,
    settings=lambda config: ("benchmark", "impl.threads"),
    needs=lambda config: ("distill",) if "student" in config.benchmark.models else (),
    sources=sources,
    show=benchmark_tables.latency,
    check=lambda config: check_settings(config.benchmark, "benchmark"),
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
        importlib.import_module(f".{KINDS[kind]}", __package__).main()


if __name__ == "__main__":
    main()
