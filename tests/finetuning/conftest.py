from __future__ import annotations

import re

import pytest

from tests.official import write_all


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """The folder of all suites in the layouts of their downloads."""
    return write_all(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="session")
def reader(official, tmp_path_factory):
    """A tiny BERT of random weights whose vocabulary holds the words of the invented data, and which reads 64 tokens."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    text = "".join(path.read_text(encoding="utf-8") for path in sorted(official.rglob("*")) if path.is_file())
    words = sorted(set(re.findall(r"[a-z]+|\d|[^\w\s]", text.lower())))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "_", *words, *(f"##{digit}" for digit in range(10))]
    path = tmp_path_factory.mktemp("reader")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=64, initializer_range=0.2, **shape)
    BertForMaskedLM(config).save_pretrained(path)
    BertTokenizer(vocab={piece: index for index, piece in enumerate(dict.fromkeys(pieces))}, model_max_length=64).save_pretrained(
        path
    )
    return path
