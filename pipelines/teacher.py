"""`bort teacher`: the teacher is run once over the blocks that will be trained on, and its soft targets are kept."""

from __future__ import annotations

from typing import Any

from pipelines import tables
from pipelines.app import entry
from pipelines.inputs import kept, open_corpus, open_teacher, teacher_sources
from pipelines.schema import Config
from pipelines.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Computes the soft targets."""
    from bort.teacher import build_targets

    config, corpus, teacher = run.config, open_corpus(run), open_teacher(run.config)
    directory = kept(run)
    record = build_targets(teacher, corpus, config.masking, config.targets, directory, observer=run.observer)
    run.tracked.params({"teacher": config.teacher.name, "targets.kind": config.targets.kind})
    return {
        **record,
        "name": config.teacher.name,
        "architecture": str(teacher.architecture),
        "parameters": teacher.parameters,
        "vocab_size": teacher.vocab_size,
        "positions": teacher.positions,
        "token_types": teacher.token_types,
        "has_head": teacher.has_head,
        "directory": str(directory),
    }


def check(config: Config) -> None:
    """Refuses settings of the teacher and its targets that cannot be used."""
    config.teacher.check()
    config.targets.check()


STAGE = Stage(
    name="teacher",
    work=work,
    settings=lambda config: ("targets", "masking") if config.targets.kind == "logits" else ("targets",),
    needs=lambda config: ("corpus",),
    sources=teacher_sources,
    show=tables.teacher,
    headline=lambda result: f"{result['name']} {result['architecture']}, {result['parameters']:,} parameters",
    check=check,
)
main = entry("teacher")

if __name__ == "__main__":
    main()
