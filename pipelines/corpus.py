"""`bort corpus`: text → documents → tokens → blocks, packed once and kept."""

from __future__ import annotations

from typing import Any

from bort.settings import check_settings

from . import tables
from .app.main import entry
from .engine.inputs import corpus_sources, kept
from .engine.schema import Config
from .engine.stage import Run, Stage


def work(run: Run) -> dict[str, Any]:
    """Packs the corpus into blocks with the teacher's tokenizer."""
    from bort.corpus.build import build_corpus
    from bort.corpus.dataset import RECORD
    from bort.corpus.sources import commits_of

    config = run.config
    directory = kept(run)
    if not (directory / RECORD).exists():
        # A hub out of reach is told before the tokenizer and all that it needs are loaded.
        commits_of(config.corpus)
    from bort.teacher.load import load_tokenizer

    record = build_corpus(
        config.corpus, load_tokenizer(config.teacher), directory, workers=config.impl.workers, observer=run.observer
    )
    run.tracked.params({"corpus.name": config.corpus.name, "corpus.block_length": config.corpus.block_length})
    run.tracked.dataset(config.corpus.name, record["digest"], config.corpus.where, record["tokens"], context="training")
    return {**record, "directory": str(directory)}


def check(config: Config) -> None:
    """Refuses settings of the corpus that cannot be used."""
    check_settings(config.corpus, "corpus")
    check_settings(config.masking, "masking")


STAGE = Stage(
    name="corpus",
    work=work,
    settings=lambda config: ("corpus",),
    sources=corpus_sources,
    show=tables.corpus,
    headline=lambda result: f"{result['tokens']['train']:,} training tokens of {result['name']}",
    check=check,
)
main = entry("corpus")

if __name__ == "__main__":
    main()
