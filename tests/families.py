"""Families of encoders, each as a tiny model of transformers' own configuration with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_NUMBERS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 66,
}
_TOKENS = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
_GROUPED = ("q", "k", "v", "post_attention", "intermediate", "output")
#: Every family with what its configuration needs beside the numbers, and the family of its students.
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "bert": ({}, "bert"),
    "roberta": ({"type_vocab_size": 1}, "roberta"),
    "mpnet": ({}, "roberta"),
    "modernbert": ({"global_attn_every_n_layers": 1}, "bert"),
    "distilbert": ({"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}, "bert"),
    "electra": ({"embedding_size": 12}, "bert"),
    "albert": ({"embedding_size": 12}, "bert"),
    "deberta-v2": ({"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 8}, "bert"),
    "squeezebert": ({"embedding_size": 16, **{f"{part}_groups": 1 for part in _GROUPED}}, "bert"),
}


def write_family(name: str, tokenizer: Any, folder: Path, kind: str = "AutoModelForMaskedLM") -> Path:
    """Writes a model of the family with the tokenizer to ``folder``, and returns it.

    Args:
        name: One of :data:`FAMILIES`.
        tokenizer: Of transformers; its vocabulary is the model's.
        folder: Where it is written.
        kind: The class of transformers that makes it.
    """
    import torch
    import transformers

    numbers = {key: value for key, value in _NUMBERS.items() if name != "distilbert" or key == "max_position_embeddings"}
    settings = _TOKENS | numbers | FAMILIES[name][0]
    config = transformers.AutoConfig.for_model(name, vocab_size=len(tokenizer), initializer_range=0.3, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, kind).from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
