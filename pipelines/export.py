"""`bort export`: a transformers directory, ONNX files and an MLflow model, each checked against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines import shipping, tables
from pipelines.app import entry
from pipelines.inputs import model_sources, task_sources
from pipelines.schema import Config
from pipelines.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Exports the fine-tuned model, or the one that was named."""
    from bort.export import export_model
    from bort.export.lineage import card_facts, lineage

    config = run.config.export
    model = Path(run.config.evaluate.model or run.inputs["finetune"]["model"])
    made = lineage(model)
    result = export_model(
        model,
        run.directory,
        config=config,
        facts=card_facts(model, made, {"teacher": config.teacher_licence, "corpus": config.corpus_licence}),
        gate=shipping.gate(run, model),
        observer=run.observer,
    )
    shipping.record(run, result)
    if config.mlflow:
        result["mlflow"] = shipping.ship(run, result, model, made)
    return {**result, "model": str(model)}


def sources(config: Config) -> dict[str, str]:
    """Returns the digests of a model that was named, and of the data that judges it."""
    named = config.evaluate.model
    judges = task_sources(config) if named and shipping.judged(config) else {}
    return {**model_sources("model", named), **judges}


STAGE = Stage(
    name="export",
    work=work,
    settings=lambda config: ("export", "evaluate", *(["task"] if config.evaluate.model and shipping.judged(config) else [])),
    needs=lambda config: () if config.evaluate.model else ("finetune",),
    sources=sources,
    show=tables.export,
    headline=tables.export_headline,
    check=shipping.check,
)
main = entry("export")

if __name__ == "__main__":
    main()
