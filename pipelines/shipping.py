"""What an export needs of the other rooms: the judge of int8, what the records tell of the model, and its place in MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import BortError, ConfigurationError
from bort.export.config import NOT_IN_NAMES
from pipelines.schema import Config
from pipelines.stage import Run

if TYPE_CHECKING:
    from bort.export.gate import Gate
    from bort.export.lineage import Made

_NOT_IN_NAMES = re.compile(f"[{re.escape(''.join(NOT_IN_NAMES))}]")
#: The forms whose figures are a run's, by the names of MLflow's metrics.
_FORMS = ("transformers", "onnx", "optimised", "int8")


def check(config: Config) -> None:
    """Refuses what cannot be exported, before any model is trained for it."""
    from bort.measure.models import kind_of
    from bort.measure.runtime import require_opset
    from bort.tasks import load_task

    config.export.check()
    if config.evaluate.model is not None:
        kind_of(config.evaluate.model)
    if config.export.onnx:
        require_opset(config.export.opset)
    if config.evaluate.model is None and config.finetuning.pooling != "first":
        raise ConfigurationError(
            "finetuning.pooling", config.finetuning.pooling, "no class of transformers has that head, so only first can be exported"
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
    from bort.finetuning.predictions import predict_from_logits
    from bort.finetuning.scoring import Scorer
    from bort.measure.runtime import open_session, run_session
    from bort.tasks import load_task
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


def facts(run: Run, model: Path, made: Mapping[str, Made]) -> dict[str, Any]:
    """Returns what the model's card says of it that the export does not know itself."""
    from bort.export.lineage import card_facts

    told = card_facts(model, made)
    settings = run.config.export
    for source, licence in (("teacher", settings.teacher_licence), ("corpus", settings.corpus_licence)):
        if source in told and licence:
            told[source]["licence"] = licence
    return told


def ship(run: Run, result: Mapping[str, Any], model: Path, made: Mapping[str, Made]) -> dict[str, Any]:
    """Writes the MLflow model, and records it with the run; returns what the result tells of it."""
    from bort.export.lineage import run_keys
    from bort.tracking.model import write_served_model

    int8 = result.get("int8") or {}
    # What no task has judged does not answer for the model.
    served = int8 if int8.get("accepted") else result.get("onnx")
    task = made["finetune"].manifest["settings"]["task"] if "finetune" in made else {}
    longest = min(result["positions"], task.get("max_length") or result["positions"])
    told = write_served_model(
        result["transformers"]["path"],
        run.directory / "mlflow",
        serves=result["serves"],
        max_length=longest,
        onnx=served["path"] if served else None,
        pairs=isinstance(task.get("text"), list) and len(task["text"]) > 1,
    )
    subject = made["finetune"].result["task"]["name"] if "finetune" in made else "student" if "distill" in made else "model"
    name = run.config.export.registered_model
    name = _NOT_IN_NAMES.sub("-", f"{run.config.name}-{subject}") if name is None else name
    lineage = run_keys(model, made)
    architecture = result["size"]["architecture"]
    run.tracked.model(
        run.directory / "mlflow",
        f"{architecture} {subject}",
        serves=told["serves"],
        registered=name or None,
        lineage={**lineage, "export": run.tracked.key},
        tags={f"bort.{stage}": key for stage, key in lineage.items()} | {"bort.architecture": architecture},
        params={"architecture": architecture, "runtime": told["runtime"], "max_length": longest, "int8": served is int8},
        metrics=_served_metrics(result, served),
        description=_description(result, made, subject),
    )
    return {**told, "registered": name or None, "lineage": lineage}


def record(run: Run, result: Mapping[str, Any]) -> None:
    """Records the export's files and figures with its run."""
    figures: dict[str, float] = {}
    for name in _FORMS:
        form = result.get(name) or {}
        figures |= {f"{name}/{key}": form[key] for key in ("bytes", "difference", "score", "lost") if form.get(key) is not None}
    run.tracked.metrics(figures)
    for name in _artifacts(result, shipped=run.config.export.mlflow):
        run.tracked.artifact(run.directory / name)


def _artifacts(result: Mapping[str, Any], *, shipped: bool) -> list[str]:
    """Returns the folders that MLflow keeps beside the model: what the model holds already would be the same weights again."""
    written = [name for name in ("transformers", "onnx") if name in result]
    held = "onnx" if "onnx" in result else "transformers"
    return [name for name in written if not (shipped and name == held)]


def _served_metrics(result: Mapping[str, Any], served: Mapping[str, Any] | None) -> dict[str, float]:
    """Returns the figures of what is served: its size, and its score where a task judged it."""
    form, int8 = served or result["transformers"], result.get("int8") or {}
    score = int8.get("score" if form is int8 else "full_score")
    return {"served/bytes": form["bytes"], **({f"served/{int8['metric']}": score} if score is not None else {})}


def _description(result: Mapping[str, Any], made: Mapping[str, Made], subject: str) -> str:
    architecture, size = result["size"]["architecture"], result["size"]["total"]
    steps = [stage for stage in ("search", "distill", "finetune") if stage in made]
    lines = [f"{architecture}, {size / 1e6:.1f} M parameters, {subject}; a {result['kind']}."]
    if steps:
        lines += ["", "Made by " + ", ".join(f"{stage} (`{made[stage].key}`)" for stage in steps) + "; the tags name the runs."]
    int8 = result.get("int8") or {}
    if int8.get("score") is not None:
        kept = "kept" if int8["accepted"] else "not kept"
        lines += ["", f"int8 {kept}: {int8['metric']} {int8['full_score']:.4f} → {int8['score']:.4f}, {int8['examples']} examples."]
    return "\n".join(lines)
