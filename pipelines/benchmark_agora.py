"""`bort benchmark agora`: what Agora is worth beside plain fine-tuning, distillation and random augmentation, at equal steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.errors import ConfigurationError, first_line
from bort.settings import check_settings
from bort.tasks.config import TaskConfig

from . import benchmark_tables
from .agora import sentence_sources, sentences_of, with_teacher
from .app.environment import CONF
from .app.main import entry
from .engine.inputs import model_sources, task_sources, teacher_sources
from .engine.schema import Config
from .engine.stage import Run, Stage


def tasks_of(config: Config) -> dict[str, TaskConfig]:
    """Return the tasks of the benchmark, each from its recipe and the benchmark's changes.

    Raises:
        ConfigurationError: There is no such recipe, or a setting is not one of a task.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    found: dict[str, TaskConfig] = {}
    for name in config.agora_benchmark.only or config.agora_benchmark.tasks:
        changes = config.agora_benchmark.tasks[name]
        path = CONF / "task" / f"{name}.yaml"
        if not path.is_file():
            raise ConfigurationError("agora_benchmark.tasks", name, "the name of a recipe, such as glue/cola")
        glue = config.agora_benchmark.glue
        own = {"path": glue, **(changes or {})} if glue and name.startswith("glue/") else dict(changes or {})
        try:
            # The recipe refers to the folder of the cache, which stands beside it in the whole configuration.
            whole = OmegaConf.create({"cache": config.cache, "task": OmegaConf.load(path)})
            made = OmegaConf.merge(OmegaConf.structured(TaskConfig), OmegaConf.to_container(whole.task, resolve=True), own)
            task = OmegaConf.to_object(made)
        except OmegaConfBaseException as error:
            raise ConfigurationError(f"agora_benchmark.tasks.{name}", own, f"settings of a task ({first_line(error)})") from error
        assert isinstance(task, TaskConfig)
        found[name] = task
    return found


def work(run: Run) -> dict[str, Any]:
    """Run the cells that are not done, beside ``impl.workers`` workers, and compare the arms.

    Cells are kept in the cache, so that a benchmark may be run in pieces: one of more seeds finds those that were run for fewer.
    """
    from bort.benchmarks.agora import AgoraBenchmarkSetup, run_benchmark
    from bort.report.agora import worth

    from .engine.workers import beside, share

    config = run.config
    student = Path(config.student.path or run.inputs["distill"]["student"])
    with beside(run, "benchmark_agora"):
        setup = AgoraBenchmarkSetup(
            student,
            tasks_of(config),
            config.agora_benchmark,
            config.finetuning,
            with_teacher(config),
            sentences_of(config),
            share(config.impl),
        )
        result = run_benchmark(setup, Path(config.cache) / "agora", run.observer)
    drawing = worth(result)
    drawing.write(run.directory)
    run.tracked.artifact(run.directory / f"{drawing.name}.svg")
    for arm, ahead in result["overall"].items():
        run.tracked.metrics({f"ahead_of_plain/{arm}": ahead["mean"]})
    return {**result, "figure": str(run.directory / f"{drawing.name}.svg"), "student": str(student)}


def check(config: Config) -> None:
    """Refuse settings and tasks that cannot be compared, before anything is trained."""
    from bort.finetuning.agora.config import theta_grid
    from bort.tasks.load import load_task

    check_settings(config.agora_benchmark, "agora_benchmark")
    check_settings(config.agora, "agora")
    check_settings(config.finetuning, "finetuning")
    theta_grid(config.finetuning)
    for name, task in tasks_of(config).items():
        if task.kind != "classification":
            raise ConfigurationError("agora_benchmark.tasks", name, f"a classification, and this is a {task.kind}")
        load_task(task)


def sources(config: Config) -> dict[str, str]:
    """Return the digests of the student, the teacher and every task's files."""
    found = {**teacher_sources(config), **model_sources("student", config.student.path), **sentence_sources(config)}
    for name, task in tasks_of(config).items():
        found |= {f"{key} {name}": value for key, value in task_sources(replace(config, task=task)).items()}
    return found


STAGE = Stage(
    name="benchmark_agora",
    work=work,
    settings=lambda config: ("agora_benchmark", "agora", "finetuning"),
    needs=lambda config: () if config.student.path else ("distill",),
    sources=sources,
    show=benchmark_tables.agora,
    headline=benchmark_tables.agora_verdict,
    check=check,
    shared=True,
)
main = entry("benchmark_agora")

if __name__ == "__main__":
    main()
