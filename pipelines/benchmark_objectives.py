"""`bort benchmark objectives`: distillations that differ in loss and seed alone, compared in a table and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bort.errors import ConfigurationError
from bort.files import digest, file_digest, read_json
from bort.record import MANIFEST, RESULT

from . import benchmark_tables
from .app.main import entry
from .engine.schema import Config
from .engine.stage import Run, Stage

#: The settings of a distillation in which the runs may differ.
_VARIED = ("loss", "seed")


def found(config: Config) -> list[Path]:
    """Returns the folders of the finished distillations below the source: the sweep's, by default."""
    source = Path(config.report.source or Path(config.outputs) / config.name)
    return sorted(path.parent for path in source.glob(f"**/distill/{RESULT}"))


def work(run: Run) -> dict[str, Any]:
    """Compares the runs and draws them."""
    from bort.benchmarks.objectives import compare_objectives, read_runs
    from bort.report.objective_figures import draw_objectives

    runs = read_runs(found(run.config))
    drawing = draw_objectives(runs)
    drawing.write(run.directory)
    run.tracked.artifact(run.directory / f"{drawing.name}.png")
    return {"rows": compare_objectives(runs), "figure": str(run.directory / f"{drawing.name}.svg"), "runs": len(runs)}


def check(config: Config) -> None:
    """Refuses a source without at least two objectives, or whose runs differ in more than loss and seed."""
    source = config.report.source or Path(config.outputs) / config.name
    manifests = [read_json(folder / MANIFEST) for folder in found(config)]
    settings = [manifest["settings"] for manifest in manifests]
    if len({digest(item["loss"]) for item in settings}) < 2:
        accepted = "a folder with distillations by at least two losses; run `bort distill -m` with several first"
        raise ConfigurationError("report.source", source, accepted)
    corpora = {manifest["inputs"]["corpus"] for manifest in manifests}
    same = {key: {digest(item[key]) for item in settings} for key in settings[0] if key not in _VARIED}
    differing = [key for key, digests in same.items() if len(digests) > 1] + (["corpus"] if len(corpora) > 1 else [])
    if differing:
        accepted = f"a folder of distillations that differ in loss and seed alone, and these differ in {', '.join(differing)}"
        raise ConfigurationError("report.source", source, accepted)


STAGE = Stage(
    name="benchmark_objectives",
    work=work,
    settings=lambda config: ("name",),
    sources=lambda config: {"results": digest([[str(path), file_digest(path / RESULT)] for path in found(config)])},
    show=benchmark_tables.objectives,
    headline=lambda result: f"{result['runs']} runs of {len(result['rows'])} objectives",
    check=check,
)
main = entry("benchmark_objectives")

if __name__ == "__main__":
    main()
