"""Reads the original Bort's weights, in either of the forms they were published in, into a plain transformers encoder.

Names and settings follow the conversion that Hugging Face transformers once had (its ``bort`` model, removed with version 5): a
post-layer-norm BERT with 512 positions counted from 0, unused token types (one, zeroed), exact GELU and a layer-norm ε of
1e-5. Only the encoder was ever converted: the masked-LM head of ``amazon/bort`` is random, and the ``.params`` file's decoder is
not read here either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.export.params import read_params
from bort.files import atomic_path, parse_json
from bort.quiet import quiet

if TYPE_CHECKING:
    import torch
    from transformers import BertModel

#: Where RoBERTa's vocabulary, which Bort's is, has its padding.
PADDING = 1
_LAYER_NORM_EPSILON = 1e-5
_EMBEDDINGS = {
    "word_embed.0.weight": "embeddings.word_embeddings.weight",
    "encoder.position_weight": "embeddings.position_embeddings.weight",
    "encoder.layer_norm.gamma": "embeddings.LayerNorm.weight",
    "encoder.layer_norm.beta": "embeddings.LayerNorm.bias",
}
_DENSE = {
    "attention_cell.proj_query": "attention.self.query",
    "attention_cell.proj_key": "attention.self.key",
    "attention_cell.proj_value": "attention.self.value",
    "proj": "attention.output.dense",
    "ffn.ffn_1": "intermediate.dense",
    "ffn.ffn_2": "output.dense",
}
_NORMS = {"layer_norm": "attention.output.LayerNorm", "ffn.layer_norm": "output.LayerNorm"}
_LAYER = "encoder.transformer_cells."


def convert_original(source: Path | str, directory: Path | str, *, heads: int | None = None, tokenizer: str | None = None) -> Path:
    """Writes an original Bort as a transformers directory that ``AutoModel`` loads, in float32.

    Args:
        source: The ``.params`` file of github.com/alexa/bort, or a directory with ``amazon/bort`` as it is on the hub.
        directory: Where to write.
        heads: Attention heads, which a ``.params`` file does not tell: 8 for ⟨4, 8, 1024, 768⟩, 16 for ⟨2, 16, 1024, 512⟩. By
            default the one of the two that the depth tells.
        tokenizer: Directory of RoBERTa's tokenizer, which is Bort's; by default the one that the source directory has, if any.

    Raises:
        BortError: The source cannot be read, or is no Bort.
    """
    source, directory = Path(source), Path(directory)
    if directory.exists():
        raise BortError(f"{directory} is there already; name a new folder for the converted model.")
    if source.is_dir():
        model = _from_directory(source)
        if tokenizer is None and any((source / name).exists() for name in ("tokenizer.json", "vocab.json")):
            tokenizer = str(source)
    else:
        model = bort_model(read_params(source), heads=heads)
    with atomic_path(directory) as temporary:
        model.save_pretrained(temporary)
        if tokenizer is not None:
            _tokenizer(tokenizer).save_pretrained(temporary)
    return directory


def bort_model(arrays: Mapping[str, NDArray[Any]], *, heads: int | None = None) -> BertModel:
    """Returns the encoder of the arrays of a ``.params`` file.

    Args:
        arrays: By their structural names in GluonNLP, such as ``encoder.transformer_cells.0.ffn.ffn_1.weight``. Others are left
            out.
        heads: As for :func:`convert_original`.

    Raises:
        BortError: An array is missing or has another shape than the rest asks for.
    """
    try:
        vocabulary, hidden = arrays["word_embed.0.weight"].shape
        positions = len(arrays["encoder.position_weight"])
        intermediate = len(arrays[f"{_LAYER}0.ffn.ffn_1.weight"])
    except (KeyError, ValueError) as error:
        raise BortError(f"These are not the weights of a Bort: {error} cannot be found or has another shape.") from error
    depth = len({name.removeprefix(_LAYER).split(".")[0] for name in arrays if name.startswith(_LAYER)})
    names = dict(_EMBEDDINGS)
    for layer in range(depth):
        theirs, ours = f"{_LAYER}{layer}.", f"encoder.layer.{layer}."
        for name, other in _DENSE.items():
            names |= {f"{theirs}{name}.{part}": f"{ours}{other}.{part}" for part in ("weight", "bias")}
        for name, other in _NORMS.items():
            names |= {f"{theirs}{name}.gamma": f"{ours}{other}.weight", f"{theirs}{name}.beta": f"{ours}{other}.bias"}
    missing = sorted(set(names) - set(arrays))
    if missing:
        raise BortError(f"These are not the weights of a Bort: {missing[0]} is missing.")
    heads = heads or {2: 16}.get(depth, 8)
    config = _config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=positions,
    )
    return _filled(config, {ours: _tensor(arrays[theirs]) for theirs, ours in names.items()})


def _from_directory(source: Path) -> BertModel:
    """Reads ``amazon/bort``: a BERT under a model type that transformers no longer has."""
    from safetensors.torch import load_file
    from torch import load

    try:
        settings = parse_json((source / "config.json").read_text(encoding="utf-8"))
        if settings.get("model_type") != "bort":
            raise BortError(f"{source} is a {settings.get('model_type')} model and needs no conversion; only bort does.")
        weights = source / "model.safetensors"
        tensors = (
            load_file(weights) if weights.exists() else load(source / "pytorch_model.bin", map_location="cpu", weights_only=True)
        )
    except (OSError, ValueError) as error:
        raise BortError(f"{source} does not hold a Bort that can be read ({error}).") from error
    keys = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    config = _config(**{key: settings[key] for key in keys})
    named = {name.removeprefix("bert."): tensor.float() for name, tensor in tensors.items()}
    return _filled(config, {name: tensor for name, tensor in named.items() if name.startswith(("embeddings.", "encoder."))})


def _config(**shape: int) -> Any:
    from transformers import BertConfig

    return BertConfig(type_vocab_size=1, layer_norm_eps=_LAYER_NORM_EPSILON, pad_token_id=PADDING, hidden_act="gelu", **shape)


def _filled(config: Any, tensors: dict[str, torch.Tensor]) -> BertModel:
    import torch
    from transformers import BertModel

    if config.hidden_size % config.num_attention_heads:
        raise BortError(f"{config.num_attention_heads} heads do not divide the hidden size of {config.hidden_size}.")
    model = BertModel(config, add_pooling_layer=False)
    token_types = "embeddings.token_type_embeddings.weight"
    tensors = {**tensors, token_types: torch.zeros_like(model.state_dict()[token_types])}
    # Older files keep the positions' numbers among the weights.
    tensors.pop("embeddings.position_ids", None)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise BortError(f"These are not the weights of a Bort: {' '.join(str(error).split())}") from error
    return model.eval()


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(array, dtype=np.float32))


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    with quiet("transformers", everything=True):
        try:
            # The type in Bort's own configuration is unknown by now, so the tokenizer's files are read by their class.
            return AutoTokenizer.from_pretrained(name, tokenizer_type="roberta")
        except (OSError, ValueError) as error:
            raise BortError(f"{name} holds no RoBERTa tokenizer that can be read ({error}).") from error
