"""The student: its parts, what it costs, and what it takes from its teacher."""

from __future__ import annotations

import pytest
import torch

from bort.architecture import Architecture
from bort.distillation.config import StudentConfig
from bort.distillation.student import StudentModel, build_student, projection_matrix, student_parameters

SHAPE = Architecture(2, 2, 8, 12)


def student_of(world, shape: Architecture = SHAPE, *, seed: int = 0, project: bool = True, **config) -> StudentModel:
    return build_student(shape, world.teacher, StudentConfig(**config), seed=seed, project=project).eval()


@pytest.mark.parametrize("name", ["world", "roberta_world"])
def test_logits_at_masked_positions_are_those_of_the_whole_model(name: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue(name)
    student = student_of(world)
    ids = torch.from_numpy(world.corpus.train[[0, 1]])
    positions = torch.tensor([[1, 4, 9], [2, 3, 10]])
    chosen = student.logits(student.encode(ids).hidden, positions)
    everywhere = student.model(input_ids=ids).logits
    expected = torch.stack([everywhere[row, positions[row]] for row in range(2)])
    assert torch.allclose(chosen, expected, atol=1e-6)


def test_relations_are_the_last_layers_own(world) -> None:
    student = student_of(world)
    ids = torch.from_numpy(world.corpus.train[[0]])
    encoded = student.encode(ids, relations=True)
    states = student.encoder(input_ids=ids, output_hidden_states=True).hidden_states
    attention = student.encoder.encoder.layer[-1].attention.self
    for caught, part in zip(encoded.relations, (attention.query, attention.key, attention.value), strict=True):
        assert torch.allclose(caught, part(states[-2]), atol=1e-6)
    assert torch.allclose(encoded.hidden, states[-1])
    assert student.encode(ids).relations is None
    assert not student._caught


def test_a_compiled_encoder_gives_the_same(world) -> None:
    """Compilation sees the hooks that catch the relations; the backend that makes no code is enough to show it."""
    plain, compiled = student_of(world), student_of(world)
    compiled.encoder.compile(backend="aot_eager")
    ids = torch.from_numpy(world.corpus.train[[0, 1]])
    for relations in (False, True):
        expected, found = plain.encode(ids, relations), compiled.encode(ids, relations)
        assert torch.allclose(found.hidden, expected.hidden, atol=1e-6)
        if relations:
            assert all(
                torch.allclose(one, other, atol=1e-6) for one, other in zip(found.relations, expected.relations, strict=True)
            )
    assert plain.state_dict().keys() == compiled.state_dict().keys()


@pytest.mark.parametrize("name", ["world", "roberta_world"])
def test_it_inherits_what_the_tokenizer_needs(name: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue(name)
    student, teacher = student_of(world).model.config, world.teacher.config
    for field in ("model_type", "vocab_size", "max_position_embeddings", "pad_token_id", "layer_norm_eps", "hidden_act"):
        assert getattr(student, field) == getattr(teacher, field)
    assert student._attn_implementation == "sdpa"


def test_parameters_are_the_architectures(world) -> None:
    student = student_of(world)
    assert student_parameters(student) == SHAPE.parameters(60, 24, token_types=2)
    assert student_parameters(student, head=True) == SHAPE.parameters(60, 24, token_types=2, head=True)


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone(world) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (student_of(world, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("name", ["world", "roberta_world"])
def test_a_student_of_the_teachers_own_shape_starts_as_the_teacher(name: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue(name)
    student = student_of(world, world.teacher.architecture, initialisation="teacher")
    ids = torch.from_numpy(world.corpus.train[[0, 1]])
    expected, _ = world.teacher.represent(ids)
    assert torch.allclose(student.encode(ids).hidden, expected, atol=1e-5)


def test_layers_that_fit_are_copied_the_last_among_them(world) -> None:
    shallow = student_of(world, Architecture(1, 2, 16, 24), initialisation="teacher")
    theirs = world.teacher.encoder.encoder.layer[-1].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in shallow.encoder.encoder.layer[0].state_dict().items())
    slim = student_of(world, Architecture(1, 2, 16, 12), initialisation="teacher").encoder.encoder.layer[0]
    assert torch.equal(slim.attention.self.query.weight, theirs["attention.self.query.weight"])
    assert slim.intermediate.dense.weight.shape == (12, 16)
    other = student_of(world, Architecture(1, 4, 16, 24), initialisation="teacher").encoder.encoder.layer[0]
    assert not torch.equal(other.attention.self.query.weight, theirs["attention.self.query.weight"])


def test_projected_embeddings_keep_the_teachers_geometry_as_well_as_so_few_dimensions_can(world) -> None:
    """No matrix of rank H keeps more of the centred embeddings than their H largest singular values hold (Eckart and Young)."""
    student = student_of(world, initialisation="teacher")
    mine = student.encoder.embeddings.word_embeddings.weight.detach().double()[1:]
    words = world.teacher.encoder.embeddings.word_embeddings.weight.double()
    theirs = (words - words.mean(0))[1:]
    gram, expected = mine @ mine.T, theirs @ theirs.T
    scale = (gram * expected).sum() / gram.square().sum()
    singular = torch.linalg.svdvals(words - words.mean(0))
    lost = (singular[8:] ** 4).sum().sqrt() / (singular**4).sum().sqrt()
    assert (scale * gram - expected).norm() / expected.norm() < 1.05 * lost + 0.02


def test_the_projection_to_a_wider_student_loses_nothing(world) -> None:
    words = world.teacher.encoder.embeddings.word_embeddings.weight.double()
    centred = words - words.mean(0)
    wide = centred @ projection_matrix(centred, 24)
    assert torch.allclose(wide @ wide.T, centred @ centred.T, atol=1e-9)


def test_the_padding_token_stays_zero(world) -> None:
    weight = student_of(world, initialisation="teacher").encoder.embeddings.word_embeddings.weight
    assert weight[world.teacher.config.pad_token_id].abs().max() == 0
