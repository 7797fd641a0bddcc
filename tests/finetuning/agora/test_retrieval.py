"""Sentences of a corpus: which are taken, which are near, and that points are made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.files import read_json
from bort.finetuning.agora.config import PRESETS, AgoraConfig, LabelerConfig
from bort.finetuning.agora.retrieval import Pool, sample_sentences
from bort.finetuning.agora.runs import finetune_agora
from bort.finetuning.agora.setup import AgoraSetup
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.setup import FinetuningSetup
from tests.finetuning.agora.conftest import BAD, GOOD, PLAIN

SENTENCES = [f"{one} film {other} {last} {one} ." for one in (*GOOD, *BAD) for other in PLAIN[:5] for last in PLAIN[5:8]]


def test_sentences_are_whole_and_of_a_usual_length():
    document = " = A heading = \n It is a short film . It was\tmade in Rome !  No . Was it any good ? And so on and on\n"
    long = " ".join(["word"] * 41) + " ."
    found = sample_sentences([document, long, "bytes that are no text \udcff ."], 10)
    assert sorted(found) == ["It is a short film .", "It was made in Rome !", "Was it any good ?", "bytes that are no text ? ."]


@given(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 5), st.randoms())
def test_a_sample_is_the_same_in_any_order_and_part_of_a_larger_one(sentences, count, more, random):
    found = sample_sentences(sentences, count)
    assert len(found) == len(set(found)) == min(count, len(set(sentences)))
    assert found == sample_sentences(sentences, count + more)[:count]
    random.shuffle(sentences)
    assert sample_sentences(sentences, count) == found


def test_a_large_corpus_is_not_read_whole():
    read = []

    def documents():
        for number in range(10_000):
            read.append(number)
            yield f"this is sentence number {number} ."

    assert len(sample_sentences(documents(), 3)) == 3
    assert len(read) == 60


def test_the_nearest_are_those_of_the_largest_cosine(encoder):
    pool = Pool(SENTENCES, encoder)
    # Two layers and the embedding: two thirds of the way is the first layer.
    layer = np.concatenate([encoder.features([text])[:, 1] for text in SENTENCES]).astype(np.float64)
    query = encoder.features(["good film aa"])[0, 1] - layer.mean(axis=0)
    rows = layer - layer.mean(axis=0)
    likeness = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    near = pool.nearest("good film aa")
    assert len(near) == len(set(near)) == 12
    found = sorted((likeness[SENTENCES.index(text)] for text in near), reverse=True)
    assert found == pytest.approx(np.sort(likeness)[::-1][:12], abs=1e-4)


def test_agora_learns_from_sentences_of_the_corpus(encoder_dir, toy, tmp_path):
    labeller = LabelerConfig(encoder=str(encoder_dir), accuracy=0.6)
    agora = AgoraConfig(steps=6, judgements=1, before=10, least=12, most=12, generators=["retrieve", "swap"], labeller=labeller)
    config = FinetuningConfig(batch_size=8, seeds=[0], resamples=20, pooling="mean", search={"learning_rate": [1e-2, 3e-3]})
    result = finetune_agora(AgoraSetup(FinetuningSetup(encoder_dir, toy, config), agora, SENTENCES), tmp_path)
    assert result["seeds"][0]["points"] > 0
    made = [
        point
        for path in sorted((tmp_path / "seeds" / "0").glob("*/points.json"))
        for point in read_json(path)["points"]
        if point["generator"] == "retrieve"
    ]
    assert made
    assert all(point["texts"][0] in SENTENCES for point in made)


def test_a_variant_by_itself_has_its_own_generators(encoder_dir):
    agora = AgoraConfig(generators=["retrieve"], labels="hard", sentences=7, labeller=LabelerConfig(encoder=str(encoder_dir)))
    paper = agora.as_variant("paper")
    assert agora.retrieves()
    assert not paper.retrieves()
    assert {name: getattr(paper, name) for name in PRESETS["paper"]} == PRESETS["paper"]
    assert (paper.sentences, paper.labeller) == (7, agora.labeller)
