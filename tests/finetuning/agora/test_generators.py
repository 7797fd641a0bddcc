"""One contract for all generators, and what each is for."""

from __future__ import annotations

import pytest

from bort.errors import ConfigurationError
from bort.finetuning.agora.config import GENERATORS
from bort.finetuning.agora.encoder import Contextual
from bort.finetuning.agora.generators import build_generators, drafts_of
from bort.finetuning.agora.retrieval import Pool
from bort.tasks.task import Example
from tests.finetuning.agora.conftest import BAD, GOOD, PLAIN

NAMES = [*GENERATORS, "spans+substitute", "mix+delete+insert", "retrieve+swap"]

SENTENCES = [f"{one} film {other} ." for one in (*GOOD, *BAD) for other in PLAIN[:4]]


def build(names, task, encoder):
    def contextual():
        return Contextual(encoder)

    pool = Pool(SENTENCES, encoder) if any("retrieve" in name for name in names) else None
    return build_generators(names, task, symmetric=True, neighbours=encoder.neighbours, contextual=contextual, pool=pool)


@pytest.fixture
def task(name, toy, pairs):
    return toy if "retrieve" in name else pairs


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_it_is_a_function_of_seed_example_and_number(self, name, task, encoder):
        first, second = (build([name], task, encoder)[0] for _ in range(2))
        sources = task.train[:6]
        wanted = [first.make(one, number, 7) for one in sources for number in range(4)]
        # In another order, by another object: nothing is remembered.
        found = [second.make(one, number, 7) for number in reversed(range(4)) for one in reversed(sources)]
        assert sorted(found) == sorted(wanted)
        assert first.make(sources[0], 2, 7) == wanted[2]
        if name != "pair_swap":
            assert len(set(wanted)) > len(wanted) // 2
            assert [first.make(one, number, 8) for one in sources for number in range(4)] != wanted

    def test_it_gives_as_many_texts_as_it_got_and_none_empty(self, name, task, encoder):
        generator, count = build([name], task, encoder)[0], len(task.train[0].texts)
        odd = [Example("x", ("good", "film")[:count], 0.0), Example("y", ("zz 你好 ?!", "…")[:count], 1.0)]
        for example in [*task.train[:8], *odd]:
            for number in range(4):
                texts = generator.make(example, number, 0)
                assert len(texts) == count
                assert all(text.strip() for text in texts)

    def test_it_does_not_look_at_the_label(self, name, task, encoder):
        generator, one = build([name], task, encoder)[0], task.train[0]
        assert generator.make(one, 1, 0) == generator.make(Example(one.identity, one.texts, 1 - one.label), 1, 0)


def test_each_operation_does_what_it_is_called(toy, encoder):
    made = dict(zip(NAMES, build([name for name in NAMES if name != "pair_swap"], toy, encoder), strict=False))
    example = Example("x", ("aa bb good cc dd bad ee ff",), 1.0)
    before = example.texts[0].split()
    for number in range(5):
        words = {name: generator.make(example, number, 0)[0].split() for name, generator in made.items()}
        assert len(words["substitute"]) == len(before)
        assert sum(a != b for a, b in zip(words["substitute"], before, strict=True)) in range(1, 5)
        assert len(words["insert"]) > len(before)
        assert sorted(words["swap"]) == sorted(before)
        assert len(words["delete"]) < len(before)
        assert set(words["delete"]) < set(before)
        assert set(words["spans"]) <= set(before)
        assert words["mix"][0] == before[0]
        assert " ".join(words["retrieve"]) in SENTENCES
        assert len(words["contextual"]) == len(before)
        assert words["contextual"] != before


def test_pairs_change_places(pairs, encoder):
    assert build(["pair_swap"], pairs, encoder)[0].make(pairs.train[0], 0, 0) == pairs.train[0].texts[::-1]


def test_neighbours_are_the_nearest_words_and_never_the_word(encoder):
    near = encoder.neighbours("Good")
    assert "good" not in near
    assert near
    assert all(word.isalpha() for word in near)
    assert encoder.neighbours("nowhere to be found") == ()


def test_what_cannot_be_had_is_refused(toy, pairs, encoder):
    for names, task, symmetric, neighbours in (
        (["pair_swap"], toy, True, None),
        (["pair_swap"], pairs, False, None),
        (["substitute"], toy, True, None),
        (["contextual"], toy, True, encoder.neighbours),
        (["retrieve"], toy, True, encoder.neighbours),
        (["retrieve"], pairs, True, encoder.neighbours),
    ):
        with pytest.raises(ConfigurationError, match=r"agora\.generators"):
            build_generators(names, task, symmetric=symmetric, neighbours=neighbours)


def test_a_teacher_without_a_head_fills_no_gaps(encoder, monkeypatch):
    monkeypatch.setattr(encoder.teacher, "has_head", False)
    with pytest.raises(ConfigurationError, match="no masked-LM head"):
        Contextual(encoder)


def test_pairs_are_not_retrieved(pairs, encoder):
    assert [one.name for one in build(["retrieve", "swap", "retrieve+delete"], pairs, encoder)] == ["swap"]


def test_sources_and_generators_take_turns(toy, encoder):
    generators = build(["swap", "delete"], toy, encoder)
    drafts = list(drafts_of(toy.train[:3], 7, generators, 0))
    assert [draft.source.identity for draft in drafts] == ["f:0", "f:1", "f:2"] * 2 + ["f:0"]
    assert [draft.generator for draft in drafts] == ["swap"] * 3 + ["delete"] * 3 + ["swap"]
