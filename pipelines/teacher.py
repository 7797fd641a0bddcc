"""`bort teacher`: the teacher is run once over the blocks that will be trained on, and its soft targets are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import ConfigurationError
from bort.files import digest
from bort.locks import exclusive
from bort.settings import check_settings

from . import tables
from .app.main import entry
from .engine.inputs import open_corpus, open_teacher, target_config, teacher_sources
from .engine.schema import Config
from .engine.stage import Run, Stage

if TYPE_CHECKING:
    from bort.corpus.dataset import Corpus


def work(run: Run) -> dict[str, Any]:
    """Fits a head where one is needed and missing, and computes the soft targets."""
    from bort.teacher.build import build_targets
    from bort.teacher.targets import targets_identity

    config, targets = run.config, target_config(run.config)
    corpus, teacher = open_corpus(run), open_teacher(run)
    fitted = None
    if "logits" in targets.kinds and not teacher.has_head:
        fitted = fitted_head(run, corpus)
        teacher = open_teacher(run, fitted["directory"])
    identity = targets_identity(teacher, corpus, config.masking, targets)
    # Named after what it holds, so that any run that needs the same finds it.
    folder = Path(config.cache) / "teacher" / digest(identity)[:16]
    if config.impl.cache:
        with exclusive(folder):
            record = build_targets(teacher, corpus, config.masking, targets, folder, observer=run.observer)
    else:
        # The teacher will run along: nothing is kept, and as the folder is not there, a run with a cache makes it.
        record = {"identity": identity}
    run.tracked.params({"teacher": config.teacher.name, "targets.kind": identity["kind"]})
    return {
        **record,
        "name": config.teacher.name,
        "architecture": str(teacher.architecture),
        "parameters": teacher.parameters,
        "vocab_size": teacher.vocab_size,
        "positions": teacher.positions,
        "token_types": teacher.token_types,
        "has_head": teacher.has_head,
        "head": fitted,
        "directory": str(folder),
    }


def fitted_head(run: Run, corpus: Corpus) -> dict[str, Any]:
    """Fits the missing head, or finds it in the cache, and returns its record with the ``directory`` of the whole model.

    Raises:
        ConfigurationError: ``teacher.head.missing`` says that none is to be fitted.
    """
    from bort.runtime import carried_out
    from bort.teacher.fit import fit_head, fit_identity

    config = run.config
    if config.teacher.head.missing == "refuse":
        accepted = "a teacher with a masked-LM head, which targets of kind logits need; teacher.head.missing=fit fits one"
        raise ConfigurationError("teacher.path", config.teacher.path, accepted)
    identity = digest(fit_identity(config.teacher, corpus, config.masking))
    folder = Path(config.cache) / "head" / identity[:16]
    with exclusive(folder), carried_out(config.impl) as device:
        record = fit_head(config.teacher, corpus, config.masking, folder, device=device, observer=run.observer)
    figures = {name: record[name] for name in ("accuracy", "accuracy_at_mask", "cross_entropy") if name in record}
    run.tracked.metrics({f"head/{name}": value for name, value in figures.items()})
    return {**record, "directory": str(folder / "model")}


def check(config: Config) -> None:
    """Refuses settings of the teacher and its targets that cannot be used."""
    check_settings(config.teacher, "teacher")
    check_settings(config.targets, "targets")


STAGE = Stage(
    name="teacher",
    work=work,
    settings=lambda config: ("targets", "masking", "teacher.head") if "logits" in target_config(config).kinds else ("targets",),
    needs=lambda config: ("corpus",),
    sources=teacher_sources,
    show=tables.teacher,
    headline=lambda result: f"{result['name']} {result['architecture']}, {result['parameters']:,} parameters",
    check=check,
)
main = entry("teacher")

if __name__ == "__main__":
    main()
