"""One contract for every family that can teach: tiny models of transformers' own configurations, with random weights."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from bort.architecture import Architecture
from bort.corpus.build import build_corpus
from bort.corpus.config import CorpusConfig, MaskingConfig
from bort.corpus.dataset import Corpus
from bort.corpus.masking import mask_blocks
from bort.distillation.config import StudentConfig
from bort.distillation.student import build_student
from bort.errors import BortError, ConfigurationError
from bort.teacher.build import build_targets
from bort.teacher.config import HeadConfig, TargetConfig, TeacherConfig
from bort.teacher.fit import MODEL, fit_head
from bort.teacher.load import load_teacher
from bort.teacher.model import Teacher
from bort.teacher.shape import TeacherShape, teacher_shape
from bort.teacher.targets import Targets, targets_identity
from tests.families import FAMILIES, write_family

MASKING = MaskingConfig()


@pytest.fixture(scope="module")
def corpus(tiny_text_directory: Path, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(
        CorpusConfig(path=str(tiny_text_directory), block_length=32, heldout=0.1, max_documents=30), tiny_tokenizer, folder
    )
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def directories(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {name: write_family(name, tiny_tokenizer, folder / name) for name in FAMILIES}


@pytest.fixture(scope="module")
def teachers(directories: dict[str, Path]) -> dict[str, Teacher]:
    return {name: load_teacher(TeacherConfig(path=str(folder))) for name, folder in directories.items()}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def some_blocks(teacher: Teacher) -> torch.Tensor:
    return torch.randint(5, teacher.vocab_size, (3, 20), generator=torch.Generator().manual_seed(0))


def test_what_a_family_says_of_itself(family: str, teachers: dict[str, Teacher], directories: dict[str, Path]):
    teacher = teachers[family]
    assert teacher.architecture == Architecture(2, 2, 16, 24)
    assert teacher.family == FAMILIES[family][1]
    # MPNet counts from 2 whatever its padding token is; RoBERTa from the row behind its padding token.
    assert teacher.positions == (64 if family == "mpnet" else 65 if teacher.family == "roberta" else 66)
    assert teacher.has_head
    shape = teacher_shape(TeacherConfig(path=str(directories[family])))
    assert shape == TeacherShape(teacher.architecture, teacher.vocab_size, teacher.positions, teacher.token_types)


def test_the_split_head_gives_transformers_own_logits(family: str, teachers: dict[str, Teacher], directories: dict[str, Path]):
    teacher = teachers[family]
    blocks = some_blocks(teacher)
    positions = torch.tensor([[1, 7, 12], [0, 3, 19], [2, 4, 5]])
    with torch.no_grad():
        whole = AutoModelForMaskedLM.from_pretrained(directories[family]).eval()(blocks).logits
    wanted = whole.gather(1, positions[..., None].expand(-1, -1, whole.shape[-1]))
    batch = teacher.targets_of(blocks, positions)
    assert teacher.splits
    torch.testing.assert_close(teacher.logits_of(batch), wanted, rtol=1e-4, atol=1e-4)
    assert not batch.transformed.is_inference()


def test_representations_and_relations(family: str, teachers: dict[str, Teacher]):
    teacher = teachers[family]
    blocks = some_blocks(teacher)
    batch = teacher.targets_of(blocks)
    with torch.no_grad():
        outputs = teacher.encoder(blocks, output_hidden_states=True)
    torch.testing.assert_close(batch.hidden, outputs.last_hidden_state)
    if family == "squeezebert":
        # Its projections are convolutions over a transposed state.
        assert not teacher.has_relations
        assert batch.layer_input is None
        with pytest.raises(ConfigurationError, match=r"'squeezebert' model cannot be told apart.*loss=hidden"):
            teacher.relation_inputs(batch.hidden)
        return
    for part in teacher.relation_inputs(batch.layer_input):
        assert part.shape == (3, 20, 16)
    # Whatever the last layer does first to its input (ModernBERT normalises it), it does so token by token: another token's
    # change reaches the projections only through the layers below.
    seen = {}
    handle = teacher._projections.first.register_forward_hook(lambda _m, _i, output: seen.update(query=output))
    with torch.no_grad():
        teacher.encoder(blocks)
    handle.remove()
    torch.testing.assert_close(teacher.relation_inputs(batch.layer_input)[0], seen["query"][..., :16])


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("initialisation", ["teacher", "random"])
def test_a_student_starts_from_a_teacher_of_the_family(family: str, initialisation: str, width: int, teachers: dict[str, Teacher]):
    teacher, shape = teachers[family], Architecture(1, 2, width, 24)
    student = build_student(shape, teacher, StudentConfig(initialisation=initialisation), seed=0)
    assert type(student.model).__name__ == {"bert": "BertForMaskedLM", "roberta": "RobertaForMaskedLM"}[teacher.family]
    blocks = some_blocks(teacher)
    with torch.no_grad():
        logits = student.logits(student.encode(blocks).hidden, torch.tensor([[1], [2], [3]]))
    assert logits.shape == (3, 1, teacher.vocab_size)
    words, theirs = (model.get_input_embeddings().weight.detach()[5:].double() for model in (student.model, teacher.encoder))
    if initialisation == "teacher" and width == 16:
        # Alike up to a rotation and one factor: the same words are near each other.
        near = [(part @ part.T).flatten() for part in (words - words.mean(0), theirs - theirs.mean(0))]
        assert float(torch.corrcoef(torch.stack(near))[0, 1]) > 0.95


@pytest.mark.parametrize("form", ["exact", "topk"])
def test_kept_logits_are_those_of_the_live_teacher(
    family: str, form: str, teachers: dict[str, Teacher], corpus: Corpus, tmp_path: Path
):
    teacher = teachers[family]
    config = TargetConfig(kind="logits", form=form, blocks=12, heldout_blocks=2, dtype="float32", top_k=20, tail_samples=4)
    build_targets(teacher, corpus, MASKING, config, tmp_path)
    kept = Targets.open(tmp_path, targets_identity(teacher, corpus, MASKING, config), verify=True)
    indices = np.array([3, 11])
    masked = mask_blocks(corpus.train[indices], indices, 0, MASKING, corpus.special, corpus.vocab_size)
    live = teacher.logits_of(teacher.targets_of(torch.from_numpy(masked.input_ids), torch.from_numpy(masked.positions)))
    batch = kept.batch("train", indices)
    if form == "exact":
        torch.testing.assert_close(teacher.logits_of(batch), live, rtol=1e-4, atol=1e-4)
    else:
        expected = torch.log_softmax(live, -1).gather(-1, batch.kept.ids)
        torch.testing.assert_close(batch.kept.log_probabilities(1.0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mpnet", "modernbert", "distilbert", "electra"])
def test_a_head_is_fitted_to_an_encoder_of_the_family(name: str, directories: dict[str, Path], corpus: Corpus, tmp_path: Path):
    bare = tmp_path / "bare"
    copytree(directories[name], bare)
    AutoModel.from_pretrained(directories[name]).save_pretrained(bare)
    config = TeacherConfig(path=str(bare), head=HeadConfig(steps=3, batch_size=4))
    assert not load_teacher(config).has_head
    fit_head(config, corpus, MASKING, tmp_path / "fit")
    assert load_teacher(TeacherConfig(path=str(tmp_path / "fit" / MODEL))).splits


def test_a_head_that_cannot_be_cut_is_kept_as_topk(
    teachers: dict[str, Teacher], corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    teacher = teachers["bert"]
    monkeypatch.setitem(vars(teacher), "splits", False)
    config = TargetConfig(kind="logits", blocks=4, heldout_blocks=1)
    warnings: list[str] = []

    class Listening:
        def progress(self, *_: object) -> None: ...

        def metrics(self, *_: object) -> None: ...

        def warn(self, message: str) -> None:
            warnings.append(message)

    record = build_targets(teacher, corpus, MASKING, config, tmp_path, observer=Listening())
    assert record["identity"]["form"] == "topk"
    assert "targets.form=topk" in warnings[0]
    batch = Targets.open(tmp_path, {}).batch("train", np.array([0]))
    live = teacher.targets_of(torch.zeros(1, 32, dtype=torch.long), torch.tensor([[1, 2]]))
    assert batch.kept is not None
    assert live.logits.shape == (1, 2, teacher.vocab_size)
    with pytest.raises(BortError, match="a masked-LM head"):
        load_teacher_without_head(teacher).targets_of(torch.zeros(1, 32, dtype=torch.long), torch.tensor([[1]]))


def load_teacher_without_head(teacher: Teacher) -> Teacher:
    return Teacher(teacher.encoder, teacher.tokenizer, None, teacher.path)
