"""`bort evaluate`: score a fine-tuned model on a task's held-out part, and write the submission for its unlabelled one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bort.files import write_text

from . import tables
from .app.main import entry
from .engine.inputs import model_sources, task_sources
from .engine.schema import Config
from .engine.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Score the model, keep its predictions and write the submission."""
    from bort.finetuning.scoring import evaluate
    from bort.tasks.load import load_task
    from bort.tasks.submission import write_suite

    model = run.config.evaluate.model or run.inputs["finetune"]["model"]
    task = load_task(run.config.task, training=False)
    result = evaluate(Path(model), task, impl=run.config.impl, observer=run.observer, directory=run.directory)
    write_text(run.directory / "predictions.jsonl", result.pop("predictions"))
    if result["submission"] and run.config.evaluate.submissions:
        files = [result["submission"]["file"], *run.config.evaluate.submissions]
        result["submission"] |= write_suite(files, run.directory, run.observer)
    run.tracked.metrics({f"heldout/{name}": score["value"] for name, score in result["metrics"].items()})
    return {**result, "model": str(model)}


def check(config: Config) -> None:
    """Refuse a task that cannot be read, or that no submission could be made of."""
    from bort.tasks.load import load_task
    from bort.tasks.submission import check_names

    check_names(load_task(config.task, training=False))


STAGE = Stage(
    name="evaluate",
    work=work,
    settings=lambda config: ("task", "evaluate"),
    needs=lambda config: () if config.evaluate.model else ("finetune",),
    sources=lambda config: {**task_sources(config), **model_sources("model", config.evaluate.model)},
    show=tables.evaluate,
    check=check,
)
main = entry("evaluate")

if __name__ == "__main__":
    main()
