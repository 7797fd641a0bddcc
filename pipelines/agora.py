"""Shared by the stages that run Agora: the teacher as the encoder of the labeler, sentences, the ledger's figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.files import digest
from bort.finetuning.agora.config import AgoraConfig

from .engine.schema import Config
from .engine.stage import Run


def with_teacher(config: Config) -> AgoraConfig:
    """Return the settings of Agora with the teacher as the labeler's encoder unless one is set."""
    agora = config.agora
    if agora.labeller.encoder is not None:
        return agora
    return replace(agora, labeller=replace(agora.labeller, encoder=config.teacher.path))


def sentences_of(config: Config) -> list[str]:
    """Return the sentences of the run's corpus that points may be taken from; empty if no generator takes any.

    Raises:
        ConfigurationError: There is no such corpus.
        BortError: It cannot be had.
    """
    from bort.corpus.sources import Reader, commits_of
    from bort.finetuning.agora.retrieval import sample_sentences

    if not config.agora.retrieves():
        return []
    documents = Reader(config.corpus, commits_of(config.corpus))
    return sample_sentences((document.text for document in documents), config.agora.sentences)


def sentence_sources(config: Config) -> dict[str, str]:
    """Return the digest of the corpus that points may be taken from; empty if no generator takes any.

    Raises:
        ConfigurationError: There is no such corpus.
    """
    from bort.corpus.sources import describe

    return {"sentences": digest(describe(config.corpus))} if config.agora.enabled and config.agora.retrieves() else {}


def draw_ledgers(run: Run, role: str, result: Mapping[str, Any], directory: Path) -> None:
    """Draw the ledgers of a model's seeds and keeps the figure with the tracked run."""
    from bort.report.agora import ledgers

    drawing = ledgers(result, role)
    drawing.write(directory)
    run.tracked.artifact(directory / f"{drawing.name}.svg")
