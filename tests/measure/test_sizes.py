from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from bort.architecture import BORT, Architecture
from bort.errors import BortError
from bort.files import read_json, write_json
from bort.measure.published import GLUE, MODELS, SUPER_GLUE, find
from bort.measure.sizes import size_table


def row(table: dict, name: str) -> dict:
    return next(row for row in table["rows"] if row["name"] == name)


def test_the_paper_s_numbers_belong_to_the_swapped_shape():
    published = size_table("bort-published")["asked"]
    assert published["total"] == 55_991_641
    assert published["embedding"] == 38_996_736
    assert published["encoder_proportion"] == pytest.approx(0.303, abs=1e-3)
    assert published["effective"] == pytest.approx(0.055, abs=5e-4)
    assert published["net"] == pytest.approx(0.165, abs=5e-4)
    released = size_table("bort")["asked"]
    assert (released["total"], released["bare"]) == (77_257_817, 75_106_304)
    assert released["effective"] == pytest.approx(0.082, abs=5e-4)
    assert released["fewer_operations"] == pytest.approx(12.8, abs=0.05)


def test_the_printed_row_stands_beside_the_counted_ones():
    table = size_table("4-8-1024-768")
    printed = row(table, "Bort, as printed")
    assert printed["basis"] == "printed"
    assert (printed["total"], printed["embedding"], printed["encoder_proportion"]) == (56e6, 39e6, 0.303)
    names = [line["name"] for line in table["rows"]]
    assert names[0] == "D4-A8-H1024-I768"
    assert "Bort, released checkpoint" not in names, "the asked shape is not listed twice"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_printed_counts_agree_with_the_closed_form(model):
    asked = size_table(model.name)["asked"]
    assert asked["total"] == asked["embedding"] + asked["norm"] + asked["encoder"] + asked["pooler"] + asked["head"]
    if model.millions:
        # Authors count with or without head and pooler; all of them round.
        nearest = min((asked["total"], asked["bare"]), key=lambda count: abs(count / 1e6 - model.millions))
        assert nearest / 1e6 == pytest.approx(model.millions, rel=0.05)


@pytest.mark.parametrize("name", ["distilbert", "mobilebert", "roberta-large", "tinybert-4", "bort-second"])
def test_the_counts_are_those_of_the_transformers_class(name):
    """Built without memory; its operations are counted as it runs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from bort.measure.models import build_model
    from bort.measure.series import without_pooler

    asked = size_table(name, sequence_length=24)["asked"]
    with torch.device("meta"):
        model = without_pooler(build_model(find(name)))
        model.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter:
            model(input_ids=torch.zeros(1, 24, dtype=torch.long))
    # transformers has a token type also where the model has none.
    types = 1024 if name == "bort-second" else 0
    assert asked["bare"] == sum(parameter.numel() for parameter in model.parameters()) - types
    assert asked["operations"] == counter.get_total_flops() // 2


def test_published_names_are_found_as_the_hub_spells_them():
    assert find("bert-large-uncased") is find("bert-large")
    assert find("distilbert-base-uncased") is find("distilbert")
    assert find("FacebookAI/roberta-large") is find("roberta-large")
    assert find("gpt2") is None


def test_published_averages_recompute():
    for scores in GLUE:
        if scores.model in ("Bort", "BERT-large"):
            tasks = {name: sum(values) / len(values) for name, values in scores.tasks.items() if name != "ax"}
            tasks["mnli"] = (tasks.pop("mnli_matched") + tasks.pop("mnli_mismatched")) / 2
            assert sum(tasks.values()) / len(tasks) == pytest.approx(scores.score, abs=0.06)
    assert {scores.model for scores in SUPER_GLUE} >= {"Bort", "BERT-large"}


def test_a_directory_is_counted_from_its_weights(tmp_path):
    shape = Architecture(1, 2, 4, 6)
    write_json(
        tmp_path / "config.json",
        {"model_type": "bert", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 4, "intermediate_size": 6},
    )
    weights = {
        "bert.embeddings.word_embeddings.weight": np.zeros((10, 4), np.float32),
        "bert.embeddings.position_ids": np.zeros((1, 8), np.int64),
        "bert.embeddings.LayerNorm.weight": np.zeros(4, np.float32),
        "bert.encoder.layer.0.attention.self.query.weight": np.zeros((4, 4), np.float16),
        "bert.pooler.dense.weight": np.zeros((4, 4), np.float32),
        "cls.predictions.bias": np.zeros(10, np.float32),
    }
    save_file(weights, tmp_path / "model.safetensors")
    asked = size_table(tmp_path)["asked"]
    assert {part: asked[part] for part in ("embedding", "norm", "encoder", "pooler", "head", "total")} == {
        "embedding": 40, "norm": 4, "encoder": 16, "pooler": 16, "head": 10, "total": 86,
    }  # fmt: skip
    assert asked["architecture"] == str(shape)
    assert asked["operations"] == shape.operations()
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "model_type": "modernbert"})
    assert size_table(tmp_path)["asked"]["operations"] is None, "its layers are of another kind"


def test_what_has_no_size_is_refused(tmp_path):
    with pytest.raises(BortError, match="'gpt-5' has no size: a shape such as"):
        size_table("gpt-5")
    with pytest.raises(BortError, match=r"has no config\.json"):
        size_table(tmp_path)
    write_json(tmp_path / "config.json", {})
    with pytest.raises(BortError, match="cannot be read as safetensors"):
        size_table(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(BortError, match="cannot be read as safetensors"):
        size_table(tmp_path)


def test_an_architecture_takes_vocabulary_and_length():
    small = size_table(BORT, sequence_length=512, vocab_size=1000, positions=64)
    assert small["asked"]["embedding"] == 1064 * 1024
    assert small["asked"]["fewer_operations"] == pytest.approx(12.0, abs=0.05)
