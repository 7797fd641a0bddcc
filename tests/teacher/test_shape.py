from __future__ import annotations

import json
from pathlib import Path

import pytest

from bort.architecture import ROBERTA_LARGE
from bort.errors import ConfigurationError
from bort.teacher.config import TeacherConfig
from bort.teacher.load import load_teacher
from bort.teacher.shape import TeacherShape, teacher_shape


@pytest.mark.parametrize("name", ["tiny_teacher_directory", "tiny_masked_lm_directory", "tiny_roberta_directory"])
def test_the_shape_read_from_the_configuration_is_that_of_the_loaded_teacher(name: str, request: pytest.FixtureRequest):
    config = TeacherConfig(path=str(request.getfixturevalue(name)))
    shape, teacher = teacher_shape(config), load_teacher(config)
    assert shape == TeacherShape(teacher.architecture, teacher.vocab_size, teacher.positions, teacher.token_types)


def test_without_a_teacher_counts_are_the_papers():
    shape = TeacherShape()
    assert shape.parameters(ROBERTA_LARGE) == ROBERTA_LARGE.parameters()


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (None, r"config\.json is missing or broken"),
        ("{", r"config\.json is missing or broken"),
        (json.dumps({"model_type": "gpt2"}), "'gpt2' model"),
        (json.dumps({"model_type": "bert", "num_hidden_layers": 2}), "lacks 'num_attention_heads'"),
    ],
)
def test_what_is_no_teacher_is_refused(tmp_path: Path, written: str | None, sentence: str):
    if written is not None:
        (tmp_path / "config.json").write_text(written, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"teacher\.path=.*{sentence}"):
        teacher_shape(TeacherConfig(path=str(tmp_path)))
