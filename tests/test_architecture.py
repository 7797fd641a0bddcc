from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.architecture import BORT, BORT_PUBLISHED, BORT_SECOND, ROBERTA_LARGE, Architecture
from bort.errors import BortError

SHAPES = st.builds(
    lambda depth, heads, size, intermediate: Architecture(depth, heads, heads * size, intermediate),
    st.integers(1, 24),
    st.integers(1, 16),
    st.integers(1, 64),
    st.integers(1, 4096),
)


@pytest.mark.parametrize(
    ("shape", "bare", "whole"),
    [
        # The counts of both Bort shapes and of the second released one, computed by hand from the layer formulas.
        (BORT, 75_106_304, 77_257_817),
        (BORT_PUBLISHED, 54_758_656 + 0, 55_991_641),
        (BORT_SECOND, 62_502_912, 64_654_425),
    ],
)
def test_the_named_shapes_have_their_known_counts(shape: Architecture, bare: int, whole: int) -> None:
    assert shape.parameters() == bare
    assert shape.parameters(head=True, pooler=True) == whole


def test_the_paper_s_figures_belong_to_the_swapped_shape() -> None:
    total = BORT_PUBLISHED.parameters(head=True, pooler=True)
    embedding = BORT_PUBLISHED.embedding_parameters()
    assert embedding == 38_996_736
    assert round(100 * (1 - embedding / total), 1) == 30.4  # printed as 30.3
    assert round(100 * (total - embedding) / (340e6 - 31.8e6), 1) == 5.5
    assert round(100 * total / 340e6) == 16


def test_operations_follow_the_closed_form() -> None:
    s, h, i = 128, 1024, 768
    assert BORT.operations() == 4 * (4 * s * h * h + 2 * s * s * h + 2 * s * h * i)
    assert 12.5 < ROBERTA_LARGE.operations() / BORT.operations() < 13.0


@pytest.mark.parametrize(("family", "head", "pooler"), itertools.product(("bert", "roberta"), (False, True), (False, True)))
def test_counts_equal_those_of_transformers(family: str, head: bool, pooler: bool) -> None:
    from transformers import BertForMaskedLM, BertModel, RobertaForMaskedLM, RobertaModel

    if head and pooler:
        pytest.skip("transformers' masked-LM models have no pooler")
    shape = Architecture(3, 4, 32, 24)
    config = shape.config(family, vocab_size=101, positions=40, token_types=2, pad_token_id=1)
    if head:
        model = {"bert": BertForMaskedLM, "roberta": RobertaForMaskedLM}[family](config)
    else:
        model = {"bert": BertModel, "roberta": RobertaModel}[family](config, add_pooling_layer=pooler)
    # RoBERTa's position embedding has two rows that are never used.
    rows = 40 + (2 if family == "roberta" else 0)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == shape.parameters(101, rows, token_types=2, head=head, pooler=pooler)


@settings(max_examples=50)
@given(SHAPES)
def test_notation_reads_back(shape: Architecture) -> None:
    assert Architecture.parse(str(shape)) == shape
    assert Architecture.parse(f"{shape.depth}-{shape.heads}-{shape.hidden}-{shape.intermediate}") == shape


@settings(max_examples=50)
@given(SHAPES)
def test_more_of_anything_costs_more(shape: Architecture) -> None:
    deeper = Architecture(shape.depth + 1, shape.heads, shape.hidden, shape.intermediate)
    wider = Architecture(shape.depth, shape.heads, shape.hidden + shape.heads, shape.intermediate)
    fuller = Architecture(shape.depth, shape.heads, shape.hidden, shape.intermediate + 1)
    for larger in (deeper, wider, fuller):
        assert larger.parameters() > shape.parameters()
        assert larger.operations() > shape.operations()


@pytest.mark.parametrize("text", ["", "4-8-1024", "4-8-1024-768-1", "a-b-c-d", "4-7-1024-768", "0-8-1024-768"])
def test_an_impossible_shape_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BortError) as caught:
        Architecture.parse(text)
    assert str(caught.value).endswith(".")


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(BortError, match="bert, roberta"):
        BORT.config("gpt")
