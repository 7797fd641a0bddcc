"""`bort distill`: a student of the chosen shape, and the same shape trained without the teacher for as many steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.table import Table

from bort.architecture import Architecture
from pipelines.app import entry
from pipelines.console import table
from pipelines.inputs import open_corpus, open_targets, open_teacher
from pipelines.schema import Config
from pipelines.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Distils the student and, where asked for, trains its twin."""
    from bort.distillation import distill
    from bort.distillation.config import LossConfig
    from bort.tracking import Recording

    config, corpus, teacher = run.config, open_corpus(run), open_teacher(run.config)
    targets = open_targets(run, teacher, corpus)
    shape = config.student.architecture
    architecture = Architecture.parse(run.inputs["search"]["winner"]["name"] if shape == "winner" else shape)
    common: dict[str, Any] = {
        "teacher": teacher,
        "corpus": corpus,
        "masking": config.masking,
        "steps": config.budget.steps,
        "checkpoint_every": config.budget.checkpoint_every,
        "impl": config.impl,
        "seed": config.seed,
    }
    run.tracked.params({"architecture": str(architecture), "loss": "+".join(config.loss.terms), "steps": config.budget.steps})
    student = distill(
        architecture,
        targets=targets,
        loss=config.loss,
        student=config.student,
        train=config.train,
        directory=run.directory,
        observer=run.observer,
        **common,
    )
    result: dict[str, Any] = dict(student)
    if config.distill.twin:
        tracked = run.tracked.child("twin, without the teacher", f"{run.tracked.key}/twin")
        twin = distill(
            architecture,
            # The targets only measure the twin; its loss is masked LM alone, and it starts from random weights.
            targets=targets,
            loss=LossConfig(masked_lm=1.0, relation_heads=config.loss.relation_heads),
            student=replace(config.student, initialisation="random"),
            train=config.train.with_theta(config.distill.twin_theta),
            directory=run.directory / "twin",
            observer=Recording(tracked, run.console),
            **common,
        )
        result["twin"] = dict(twin)
        tracked.metrics(_figures(result["twin"]))
        tracked.finish()
    run.tracked.metrics(_figures(result))
    return result


def _figures(result: dict[str, Any]) -> dict[str, float]:
    figures = {f"heldout.{name}": value for name, value in result["heldout"].items() if value is not None}
    return figures | {name: result[name] for name in ("tokens", "tokens_per_second", "processor_seconds", "parameters")}


def needs(config: Config) -> tuple[str, ...]:
    """The stages that the student's shape and its loss ask for."""
    stages = ["corpus"]
    if config.loss.targets:
        stages.append("teacher")
    if config.student.architecture == "winner":
        stages.append("search")
    return tuple(stages)


def check(config: Config) -> None:
    """Refuses settings of student, loss and training that cannot be used together."""
    for part in (config.student, config.loss, config.train, config.budget, config.impl):
        part.check()
    config.train.with_theta(config.distill.twin_theta)


def show(result: dict[str, Any]) -> Table:
    """The held-out figures of the student and its twin."""
    models = {"student": result, "twin": result.get("twin")}
    present = {name: model for name, model in models.items() if model}
    figures = list(dict.fromkeys(name for model in present.values() for name in model["heldout"]))
    rows = [(name, *(_number(model["heldout"].get(name)) for model in present.values())) for name in figures]
    rows += [
        (name, *(f"{model[key]:,.0f}" for model in present.values()))
        for name, key in (("tokens", "tokens"), ("processor-seconds", "processor_seconds"), ("parameters", "parameters"))
    ]
    return table(f"Distilled {result['architecture']}", ("held out", *present), rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


STAGE = Stage(
    name="distill",
    work=work,
    settings=lambda config: ("student", "loss", "train", "budget.steps", "masking", "distill", "seed"),
    needs=needs,
    sources=lambda config: {},
    show=show,
    headline=lambda result: f"{result['architecture']}, {result['parameters']:,} parameters, {result['steps']:,} steps",
    check=check,
)
main = entry("distill")

if __name__ == "__main__":
    main()
