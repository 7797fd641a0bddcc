"""`bort report`: one HTML page of whatever a run's stages have left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bort.errors import ConfigurationError
from bort.files import digest, file_digest, read_json
from bort.record import MANIFEST, RESULT

from . import tables
from .app.main import entry
from .engine.schema import Config
from .engine.stage import Run, Stage
from .reproduce import SECTIONS, summary

#: Stages that the chain does not run, and that a report draws where they have left a result.
APART = ("benchmark_search",)


def found(config: Config) -> dict[str, Path]:
    """Returns the results that the report can draw, by stage."""
    source = Path(config.report.source or config.root)
    return {name: path for name in (*SECTIONS, *APART) if (path := source / name / RESULT).exists()}


def work(run: Run) -> dict[str, Any]:
    """Draws the page."""
    from bort.report.page import build_report

    folders = {name: path.parent for name, path in found(run.config).items()}
    results, manifests = ({name: read_json(folder / file) for name, folder in folders.items()} for file in (RESULT, MANIFEST))
    page = build_report(summary(run.config, results, manifests), run.directory)
    run.tracked.artifact(page)
    return {"page": str(page), "sections": list(results)}


def check(config: Config) -> None:
    """Refuses a folder without any result."""
    if not found(config):
        accepted = f"a folder with the result of a stage, one of {', '.join(SECTIONS)}; run a stage first"
        raise ConfigurationError("report.source", config.report.source or config.root, accepted)


STAGE = Stage(
    name="report",
    work=work,
    settings=lambda config: ("report",),
    sources=lambda config: {"results": digest([[name, file_digest(path)] for name, path in found(config).items()])},
    show=tables.report,
    check=check,
)
main = entry("report")

if __name__ == "__main__":
    main()
