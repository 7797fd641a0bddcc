"""What stages read of the teacher: its head fitted once for all of them, and its targets mended where they were damaged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bort.corpus.build import build_corpus
from bort.corpus.config import CorpusConfig, MaskingConfig
from bort.corpus.dataset import Corpus
from bort.distillation.terms import LossConfig
from bort.errors import ConfigurationError
from bort.runtime_config import ImplConfig
from bort.teacher.build import build_targets
from bort.teacher.config import HeadConfig, TargetConfig, TeacherConfig
from pipelines.engine.inputs import open_targets, open_teacher, target_config, teacher_sources
from pipelines.teacher import fitted_head


@pytest.fixture
def corpus(tiny_text_directory: Path, tiny_tokenizer: Any, tmp_path: Path) -> Corpus:
    settings = CorpusConfig(path=str(tiny_text_directory), block_length=32, heldout=0.2, max_documents=20)
    build_corpus(settings, tiny_tokenizer, tmp_path / "corpus")
    return Corpus.open(tmp_path / "corpus")


class Listening:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def progress(self, *_: object) -> None: ...

    def metrics(self, *_: object) -> None: ...

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def a_run(folder: Path, cache: Path, **inputs: Any) -> Any:
    head = HeadConfig(steps=2, batch_size=4, heldout_blocks=4)
    config = SimpleNamespace(
        teacher=TeacherConfig(path=str(folder), head=head),
        targets=TargetConfig(blocks=8, heldout_blocks=2),
        loss=LossConfig(masked_lm=0.1, soft_targets=0.5),
        masking=MaskingConfig(),
        impl=ImplConfig(),
        cache=str(cache),
    )
    tracked = SimpleNamespace(metrics=lambda figures: None)
    return SimpleNamespace(config=config, inputs=inputs, observer=Listening(), tracked=tracked)


def test_a_missing_head_is_fitted_once_and_read_by_the_later_stages(tiny_teacher_directory: Path, corpus: Corpus, tmp_path: Path):
    run = a_run(tiny_teacher_directory, tmp_path)
    head = fitted_head(run, corpus)
    assert "has no masked-LM head: one is fitted in 2 steps with all layers" in run.observer.warnings[0]
    assert "a longer fit is needed" in run.observer.warnings[1]
    again = a_run(tiny_teacher_directory, tmp_path)
    assert fitted_head(again, corpus) == head
    assert not again.observer.warnings
    assert not open_teacher(again).has_head
    assert open_teacher(a_run(tiny_teacher_directory, tmp_path, teacher={"head": head})).has_head


def test_a_missing_head_can_be_refused(tiny_teacher_directory: Path, corpus: Corpus, tmp_path: Path):
    run = a_run(tiny_teacher_directory, tmp_path)
    run.config.teacher.head.missing = "refuse"
    with pytest.raises(ConfigurationError, match=r"teacher\.head\.missing=fit") as refused:
        fitted_head(run, corpus)
    assert (refused.value.key, refused.value.value) == ("teacher.path", str(tiny_teacher_directory))


def test_damaged_targets_are_made_again_and_that_is_said(tiny_masked_lm_directory: Path, corpus: Corpus, tmp_path: Path):
    folder = tmp_path / "targets"
    run = a_run(tiny_masked_lm_directory, tmp_path, teacher={"directory": str(folder)})
    teacher = open_teacher(run)
    build_targets(teacher, corpus, run.config.masking, target_config(run.config), folder)
    whole = open_targets(run, teacher, corpus).batch("train", np.arange(8)).transformed
    assert not run.observer.warnings
    path = next((folder / "logits").glob("train-*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    mended = open_targets(run, teacher, corpus).batch("train", np.arange(8)).transformed
    assert mended.equal(whole)
    assert "computes what is missing again" in run.observer.warnings[0]
    assert f"{path} is missing or damaged; it is computed again." in run.observer.warnings


def test_what_the_loss_needs_is_part_of_what_targets_are_made_from(tiny_masked_lm_directory: Path, tmp_path: Path):
    run = a_run(tiny_masked_lm_directory, tmp_path)
    assert teacher_sources(run.config)["kind"] == "logits"
    run.config.loss = LossConfig(relations=1.0, soft_targets=1.0)
    run.config.targets.form = "topk"
    assert {"kind": "representation+logits", "temperature": "2.0"}.items() <= teacher_sources(run.config).items()
