"""`bort export`: a transformers directory and ONNX files, each checked against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines import tables
from pipelines.app import entry
from pipelines.inputs import model_sources
from pipelines.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Exports the fine-tuned model, or the one that was named."""
    from bort.export import export_model

    config = run.config
    model = Path(config.evaluate.model or run.inputs["finetune"]["model"])
    facts = {"task": run.inputs["finetune"]} if "finetune" in run.inputs else {}
    result = export_model(model, run.directory, config=config.export, facts=facts, observer=run.observer)
    for name in ("transformers", "onnx"):
        if name in result:
            run.tracked.artifact(run.directory / name)
    return {**result, "model": str(model)}


STAGE = Stage(
    name="export",
    work=work,
    settings=lambda config: ("export", "evaluate"),
    needs=lambda config: () if config.evaluate.model else ("finetune",),
    sources=lambda config: model_sources("model", config.evaluate.model),
    show=tables.export,
    check=lambda config: config.export.check(),
)
main = entry("export")

if __name__ == "__main__":
    main()
