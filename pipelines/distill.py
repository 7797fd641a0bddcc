"""`bort distill`: a student of the chosen shape, and the same shape trained without the teacher for as many steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.architecture import Architecture
from bort.observer import Observer
from bort.settings import check_settings
from bort.tracking.tracker import TrackedRun

from . import tables
from .app.main import entry
from .engine.inputs import open_setup, open_teacher
from .engine.schema import Config
from .engine.stage import Run, Stage

_METRICS = (
    "tokens",
    "tokens_per_second",
    "mfu",
    "processor_seconds",
    "gpu_seconds",
    "peak_memory_bytes",
    "data_wait",
    "parameters",
)


class Students:
    """Trains students of one shape on the same blocks, in the same order, for as many steps.

    Args:
        run: The stage that trains them.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._config = run, run.config
        self._setup = open_setup(run)
        shape = run.config.student.architecture
        self._architecture = Architecture.parse(run.inputs["search"]["winner"]["name"] if shape == "winner" else shape)

    def distilled(self) -> dict[str, Any]:
        """Train the student with the configured loss."""
        run, config = self._run, self._config
        run.tracked.params({"architecture": str(self._architecture), "objective": "+".join(config.loss.terms)})
        result = self._train(run.directory, run.observer)
        run.tracked.params({"steps": result["steps"]})
        _record(run.tracked, result)
        # The pass is made once, for every student that reads these blocks; its cost is reported beside each of them.
        return {**result, "teacher_processor_seconds": run.inputs.get("teacher", {}).get("processor_seconds", 0.0)}

    def twin(self) -> dict[str, Any]:
        """Train the same shape from random weights MLM only; the soft targets only measure it."""
        from bort.distillation.terms import LossConfig
        from bort.tracking.tracker import Recording

        run, config = self._run, self._config
        tracked = run.tracked.child(f"{config.name} twin, no teacher", f"{run.tracked.key}/twin")
        result = self._train(
            run.directory / "twin",
            Recording(tracked, run.console),
            loss=LossConfig(masked_lm=1.0, relation_heads=config.loss.relation_heads),
            student=replace(config.student, initialisation="random"),
            train=config.train.with_theta(config.distill.twin_theta),
        )
        tracked.params({"architecture": str(self._architecture), "objective": "masked_lm", "steps": result["steps"]})
        _record(tracked, result)
        tracked.finish()
        return result

    def _train(self, directory: Path, observer: Observer, **differing: Any) -> dict[str, Any]:
        from bort.distillation.distill import distill

        config, setup = self._config, replace(self._setup, **differing)
        return dict(distill(self._architecture, setup, config.budget, directory, impl=config.impl, observer=observer))


def _record(tracked: TrackedRun, result: dict[str, Any]) -> None:
    """Record a training's final metrics; the held-out ones are the ends of their curves."""
    heldout = {f"heldout/{name}": value for name, value in result["heldout"].items() if value is not None}
    tracked.metrics(heldout, result["steps"])
    tracked.metrics({name: result[name] for name in _METRICS if result.get(name) is not None})


def write_untrained(run: Run, role: str, initialisation: str | None) -> Path:
    """Write the distilled student as it was before the first step, or with another initialization, and return its directory.

    Args:
        run: A stage that has the distillation among its inputs.
        role: Names the directory.
        initialisation: ``student.initialisation``; the configured one if ``None``.
    """
    from bort.distillation.student import build_student

    config, directory = run.config, run.directory / "untrained" / role
    if not directory.is_dir():
        teacher = open_teacher(run)
        architecture = Architecture.parse(run.inputs["distill"]["architecture"])
        settings = replace(config.student, initialisation=initialisation or config.student.initialisation)
        # A projection takes its share of the random numbers before the start is drawn.
        student = build_student(architecture, teacher, settings, seed=config.seed, project=config.loss.projects)
        student.save(directory, teacher.tokenizer)
    return directory


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
    """Refuse settings of student, loss and training that do not go together."""
    for key in ("student", "loss", "train", "budget", "impl"):
        check_settings(getattr(config, key), key)
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
