"""`bort export`: a transformers directory, ONNX files and an MLflow model, each checked against torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import BortError, ConfigurationError
from bort.settings import check_settings

from . import tables
from .app.main import entry
from .engine.inputs import model_sources, task_sources
from .engine.schema import Config
from .engine.stage import Run, Stage

if TYPE_CHECKING:
    from bort.export.gate import Gate
    from bort.export.lineage import Made


def check(config: Config) -> None:
    """Refuses what cannot be exported, before any model is trained for it."""
    from bort.measure.models import kind_of
    from bort.measure.runtime import require_opset
    from bort.tasks.load import load_task

    check_settings(config.export, "export")
    if config.evaluate.model is not None:
        kind_of(config.evaluate.model)
    if config.export.onnx:
        require_opset(config.export.opset)
    if config.evaluate.model is None and config.finetuning.pooling != "first":
        raise ConfigurationError(
            "finetuning.pooling", config.finetuning.pooling, "first, as no class of transformers has another head"
        )
    if judged(config):
        load_task(config.task, training=False)


def judged(config: Config) -> bool:
    """Whether a task judges an int8 model: it does where the model is a classifier's or chooses among options."""
    from bort.measure.models import CHOICE, CLASSIFIER, kind_of

    named = config.evaluate.model
    return config.export.int8 and (named is None or kind_of(named) in (CLASSIFIER, CHOICE))


def gate(run: Run, model: Path) -> Gate | None:
    """Returns the judge of an int8 model: the task's first metric on held-out data; none for a model without a task."""
    from bort.export.gate import Gate
    from bort.finetuning.scoring import Scorer, predict_from_logits
    from bort.measure.runtime import open_session, run_session
    from bort.tasks.load import load_task
    from bort.tasks.metrics import score

    if not judged(run.config):
        return None
    task = load_task(run.config.task, training=False)
    if not task.heldout:
        raise BortError(f"task {task.name} has no held-out examples to judge int8 on; export without it, or name another task.")

    scorer = Scorer(model, task, observer=run.observer)

    def scored(path: Path) -> tuple[float, list[float]]:
        import torch

        session = open_session(path, run.config.impl.threads)

        def forward(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            given = {name: value.numpy() for name, value in inputs.items()}
            return torch.from_numpy(run_session(session, given["input_ids"], given["attention_mask"], given.get("token_type_ids")))

        predictions = predict_from_logits(task, scorer.logits(task.heldout, f"score {path.stem}", forward))
        return score(task, predictions, task.heldout)[task.primary], predictions

    return Gate(task.name, task.primary, len(task.heldout), scored)


def ship(run: Run, result: Mapping[str, Any], model: Path, made: Mapping[str, Made]) -> dict[str, Any]:
    """Writes the MLflow model, and records it with the run; returns what the result tells of it."""
    from bort.export.lineage import run_keys
    from bort.export.release import description, registered_name, served_form, served_metrics, subject
    from bort.tracking.model import write_served_model
    from bort.tracking.tracker import LoggedModel

    form = served_form(result)
    task = made["finetune"].manifest["settings"]["task"] if "finetune" in made else {}
    longest = min(result["positions"], task.get("max_length") or result["positions"])
    told = write_served_model(
        result["transformers"]["path"],
        run.directory / "mlflow",
        serves=result["serves"],
        max_length=longest,
        onnx=None if form == "transformers" else result[form]["path"],
        pairs=isinstance(task.get("text"), list) and len(task["text"]) > 1,
    )
    name = registered_name(run.config.export, run.config.name, made)
    lineage = run_keys(model, made)
    architecture = result["size"]["architecture"]
    run.tracked.model(
        LoggedModel(
            run.directory / "mlflow",
            f"{architecture} {subject(made)}",
            serves=told["serves"],
            registered=name,
            lineage={**lineage, "export": run.tracked.key},
            tags={f"bort.{stage}": key for stage, key in lineage.items()} | {"bort.architecture": architecture},
            params={"architecture": architecture, "runtime": told["runtime"], "max_length": longest, "int8": form == "int8"},
            metrics=served_metrics(result),
            description=description(result, made),
        )
    )
    return {**told, "registered": name, "lineage": lineage}


def record(run: Run, result: Mapping[str, Any]) -> None:
    """Records the export's files and figures with its run."""
    from bort.export.release import folders_beside, form_metrics

    run.tracked.metrics(form_metrics(result))
    for name in folders_beside(result, served=run.config.export.mlflow):
        run.tracked.artifact(run.directory / name)


def work(run: Run) -> dict[str, Any]:
    """Exports the fine-tuned model, or the one that was named."""
    from bort.export.lineage import card_facts, lineage
    from bort.export.models import export_model

    config = run.config.export
    model = Path(run.config.evaluate.model or run.inputs["finetune"]["model"])
    made = lineage(model)
    result = export_model(
        model,
        run.directory,
        config=config,
        facts=card_facts(model, made, {"teacher": config.teacher_licence, "corpus": config.corpus_licence}),
        gate=gate(run, model),
        observer=run.observer,
    )
    record(run, result)
    if config.mlflow:
        result["mlflow"] = ship(run, result, model, made)
    return {**result, "model": str(model)}


def sources(config: Config) -> dict[str, str]:
    """Returns the digests of a model that was named, and of the data that judges it."""
    named = config.evaluate.model
    judges = task_sources(config) if named and judged(config) else {}
    return {**model_sources("model", named), **judges}


STAGE = Stage(
    name="export",
    work=work,
    settings=lambda config: ("export", "evaluate", *(["task"] if config.evaluate.model and judged(config) else [])),
    needs=lambda config: () if config.evaluate.model else ("finetune",),
    sources=sources,
    show=tables.export,
    headline=tables.export_headline,
    check=check,
)

main = entry("export")

if __name__ == "__main__":
    main()
