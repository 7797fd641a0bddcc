"""`bort distill`: a student of the chosen shape, and the same shape trained without the teacher for as many steps."""

from __future__ import annotations

from typing import Any

from pipelines import tables
from pipelines.app import entry
from pipelines.schema import Config
from pipelines.stage import Run, Stage
from pipelines.students import Students


def work(run: Run) -> dict[str, Any]:
    """Distils the student and, where asked for, trains its twin."""
    students = Students(run)
    result = students.distilled()
    return {**result, "twin": students.twin()} if run.config.distill.twin else result


def needs(config: Config) -> tuple[str, ...]:
    """The stages that the student's shape and its loss ask for."""
    stages = ["corpus"]
    if config.loss.targets or config.distill.against_teacher:
        stages.append("teacher")
    if config.student.architecture == "winner":
        stages.append("search")
    return tuple(stages)


def check(config: Config) -> None:
    """Refuses settings of student, loss and training that cannot be used together."""
    for part in (config.student, config.loss, config.train, config.budget, config.impl):
        part.check()
    config.train.with_theta(config.distill.twin_theta)
    config.train.check_parts(config.impl.devices * config.impl.nodes)


#: What says how long a student is trained.
LENGTH = ("budget.steps", "budget.tokens", "budget.seconds")
STAGE = Stage(
    name="distill",
    work=work,
    settings=lambda config: ("student", "loss", "train", *LENGTH, "masking", "distill", "seed"),
    needs=needs,
    sources=lambda config: {},
    show=tables.distill,
    headline=lambda result: f"{result['architecture']}, {result['parameters']:,} parameters, {result['steps']:,} steps",
    check=check,
    joint=True,
)
main = entry("distill")

if __name__ == "__main__":
    main()
