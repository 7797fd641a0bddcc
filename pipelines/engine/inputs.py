"""What stages read: where things are kept between runs, the digests of what no stage made, and the inputs opened again."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bort.errors import RecordError
from bort.files import digest, file_digest
from bort.locks import exclusive

from .schema import Config
from .stage import Run

if TYPE_CHECKING:
    from bort.corpus.dataset import Corpus
    from bort.distillation.setup import DistillationSetup
    from bort.distillation.targets import OnlineTargets
    from bort.teacher.config import TargetConfig
    from bort.teacher.model import Teacher
    from bort.teacher.targets import Targets

#: The files of a model in transformers layout that decide what it computes.
_MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")


def kept(run: Run) -> Path:
    """Returns where a stage keeps what other runs can use too: a folder of the cache named after all that it is made from."""
    return Path(run.config.cache) / run.directory.name / run.digest[:16]


def corpus_sources(config: Config) -> dict[str, str]:
    """Returns the digests of the text and of the tokenizer."""
    from bort.corpus.sources import describe

    text = digest(describe(config.corpus))
    return {"text": text, "tokenizer": _model(config.teacher.path, config.teacher.revision, ("*.json", "*.txt", "*.model"))}


def teacher_sources(config: Config) -> dict[str, str]:
    """Returns the digest of the teacher's files, and what the loss adds to the settings of the targets."""
    targets = target_config(config)
    needed = {"kind": "+".join(targets.kinds)}
    if "logits" in targets.kinds and targets.form == "topk":
        needed["temperature"] = str(targets.temperature)
    return {"teacher": _model(config.teacher.path, config.teacher.revision, _MODEL_FILES), **needed}


def target_config(config: Config) -> TargetConfig:
    """Returns the settings of the soft targets, what they leave open filled in from the loss."""
    return config.targets.for_loss(config.loss.targets, config.loss.temperature)


def model_sources(key: str, path: str | None) -> dict[str, str]:
    """Returns the digest of a model directory that the user named under ``key``; none where nothing was named."""
    return {key: _model(path, None, _MODEL_FILES)} if path else {}


def task_sources(config: Config) -> dict[str, str]:
    """Returns the digest of the task's files, or of the pinned data on the hub."""
    from bort.tasks.sources import source_digests

    return {"task": digest(source_digests(config.task))}


def open_teacher(run: Run, fitted: str | None = None) -> Teacher:
    """Loads the teacher, with the head that the teacher stage fitted to it where it fitted one.

    Args:
        run: The stage that asks.
        fitted: The directory of a teacher with a fitted head; by default what the teacher stage says.
    """
    from bort.teacher.load import load_teacher

    config, head = run.config.teacher, run.inputs.get("teacher", {}).get("head")
    path = fitted or (head["directory"] if head else None)
    return load_teacher(replace(config, path=path, revision=None) if path else config)


def open_corpus(run: Run) -> Corpus:
    """Opens the corpus that the corpus stage made, and notes it as the data of the tracked run."""
    from bort.corpus.dataset import Corpus

    made = run.inputs["corpus"]
    run.tracked.dataset(made["name"], made["digest"], run.config.corpus.where, made["tokens"], context="training")
    return Corpus.open(made["directory"])


def open_targets(run: Run, teacher: Teacher, corpus: Corpus) -> Targets | OnlineTargets | None:
    """Return the cached targets of the teacher stage, or those of an online teacher; ``None`` if no stage needs any.

    Damaged shards are computed again, with a warning.
    """
    from bort.distillation.targets import OnlineTargets
    from bort.teacher.build import build_targets
    from bort.teacher.targets import Targets, targets_identity

    if "teacher" not in run.inputs:
        return None
    settings = target_config(run.config)
    if not run.config.impl.cache:
        return OnlineTargets(teacher, corpus, run.config.masking, settings)
    expected = targets_identity(teacher, corpus, run.config.masking, settings)
    directory = Path(run.inputs["teacher"]["directory"])
    with exclusive(directory):
        try:
            return Targets.open(directory, expected, verify=True)
        except RecordError as error:
            run.observer.warn(f"{error} The teacher computes what is missing again.")
            build_targets(teacher, corpus, run.config.masking, settings, directory, observer=run.observer)
        return Targets.open(directory, expected)


def open_setup(run: Run) -> DistillationSetup:
    """Return everything that fixes a student's training: the inputs that earlier stages wrote, and the settings."""
    from bort.distillation.setup import DistillationSetup

    config, corpus, teacher = run.config, open_corpus(run), open_teacher(run)
    targets = open_targets(run, teacher, corpus)
    return DistillationSetup(teacher, corpus, targets, config.masking, config.loss, config.train, config.student, config.seed)


@cache
def _model(path: str, revision: str | None, patterns: tuple[str, ...]) -> str:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return digest([path, revision])
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return digest([[file.name, file_digest(file)] for file in files])
