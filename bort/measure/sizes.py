"""Sizes of any architecture, published model or directory, beside the paper's own figures."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bort.architecture import BORT, BORT_PUBLISHED, POSITIONS, SEQUENCE_LENGTH, VOCABULARY, Architecture
from bort.errors import BortError
from bort.files import parse_json, read_json
from bort.measure.models import transformers_directory
from bort.measure.published import BERT_LARGE_EMBEDDING, BERT_LARGE_PARAMETERS, PAPER_SIZES, PublishedModel, PublishedSize, find

_SHAPE = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
#: What DistilBERT's configuration calls them.
_DISTILBERT_SHAPE = ("n_layers", "n_heads", "dim", "hidden_dim")
#: Families whose layers have the products of a plain BERT layer, so that the closed form counts their operations.
_PLAIN = frozenset(
    {"albert", "bert", "camembert", "data2vec-text", "distilbert", "electra", "ernie", "mpnet", "roberta", "roberta-prelayernorm"}
    | {"roformer", "xlm-roberta"}
)
#: How the tensors of masked-LM heads and classifiers begin in transformers' encoders.
_HEADS = ("cls.", "lm_head.", "classifier.", "pre_classifier.", "predictions.", "vocab_", "head.", "decoder.", "score.")


def size_table(
    what: str | Path | Architecture,
    *,
    sequence_length: int = SEQUENCE_LENGTH,
    vocab_size: int = VOCABULARY,
    positions: int = POSITIONS,
) -> dict[str, Any]:
    """Returns the sizes of ``what`` with the paper's row and the two shapes that go by the name of Bort beside it.

    Args:
        what: An architecture, its notation (``4-8-1024-768``), a published name (``bert-large``), or a transformers directory,
            whose weights are counted as they are.
        sequence_length: Tokens at which operations are counted.
        vocab_size: Rows of the word embedding of a bare architecture.
        positions: Rows of the position embedding of a bare architecture.

    Returns:
        ``asked`` (the row of ``what``), ``rows`` (it and its comparisons), ``sequence_length`` and ``notes``. A row has ``name``,
        ``architecture``, ``basis`` (counted or printed), ``source``, the counts ``total = embedding + norm + encoder + pooler +
        head`` and ``bare`` (total without pooler and head), ``encoder_proportion`` (1 − embedding/total, as the paper has it),
        ``effective`` ((total − embedding) over BERT-large's) and ``net`` (total over BERT-large's), all three as fractions, and
        ``operations`` with ``fewer_operations`` (how many times fewer than BERT-large's).

    Raises:
        BortError: ``what`` is none of these, or a directory without readable weights.
    """
    asked = _asked(what, sequence_length, vocab_size, positions)
    comparisons = [
        _printed(PAPER_SIZES[0], BORT_PUBLISHED),
        _counted("Bort, the shape of the published numbers", BORT_PUBLISHED, sequence_length),
        _counted("Bort, released checkpoint", BORT, sequence_length),
        _printed(PAPER_SIZES[1], Architecture(24, 16, 1024, 4096)),
        _from_published(_known("bert-large"), sequence_length),
    ]
    same = ("architecture", "total", "embedding", "basis")
    return {
        "asked": asked,
        "rows": [asked, *(row for row in comparisons if any(row[key] != asked[key] for key in same))],
        "sequence_length": sequence_length,
        "notes": [
            "effective and net divide by the paper's figures for BERT-large, 340 M in all and 31.8 M in its embedding",
            "bare leaves out pooler and masked-LM head; the paper's totals, and with them the encoder's share, have both",
            "56 M, 39 M, 30.3 %, 5.5 % and 16 % are the sizes of ⟨4, 8, 768, 1024⟩; the released checkpoint is ⟨4, 8, 1024, 768⟩",
        ],
    }


def _known(name: str) -> PublishedModel:
    model = find(name)
    if model is None:
        raise BortError(f"'{name}' is not among the published models.")
    return model


def _asked(what: str | Path | Architecture, sequence_length: int, vocab_size: int, positions: int) -> dict[str, Any]:
    if not isinstance(what, Architecture):
        # A name comes before a folder of that name: the folder can be written ./bort.
        published = find(what) if isinstance(what, str) else None
        if published is not None:
            return _from_published(published, sequence_length)
        if Path(what).is_dir():
            return _from_directory(transformers_directory(Path(what)), sequence_length)
        try:
            what = Architecture.parse(str(what))
        except BortError:
            raise BortError(
                f"'{what}' has no size: a shape such as 4-8-1024-768, a published name such as bert-large, or a model directory is "
                "accepted."
            ) from None
    return _counted(str(what), what, sequence_length, vocab_size, positions)


def _row(
    name: str,
    architecture: Architecture | None,
    counts: Mapping[str, float | None],
    basis: str,
    source: str,
    sequence_length: int,
    operations: int | None,
) -> dict[str, Any]:
    total, embedding = counts["total"], counts["embedding"]
    row: dict[str, Any] = {
        "name": name,
        "architecture": str(architecture) if architecture else None,
        "basis": basis,
        "source": source,
        **counts,
        "operations": operations,
        "fewer_operations": Architecture(24, 16, 1024, 4096).operations(sequence_length) / operations if operations else None,
    }
    if total is not None and embedding is not None:
        row["encoder_proportion"] = 1 - embedding / total
        row["effective"] = (total - embedding) / (BERT_LARGE_PARAMETERS - BERT_LARGE_EMBEDDING)
        row["net"] = total / BERT_LARGE_PARAMETERS
    return row


def _counted(
    name: str,
    architecture: Architecture,
    sequence_length: int,
    vocab_size: int = VOCABULARY,
    positions: int = POSITIONS,
) -> dict[str, Any]:
    counts = _counts(architecture, vocab_size, positions)
    return _of_shape(name, architecture, counts, sequence_length, "closed form of the shape")


def _counts(
    architecture: Architecture,
    vocab_size: int,
    positions: int,
    token_types: int = 0,
    *,
    pooler: bool = True,
    head: bool = True,
) -> dict[str, int]:
    return {
        "embedding": architecture.embedding_parameters(vocab_size, positions, token_types),
        "norm": 2 * architecture.hidden,
        "encoder": architecture.encoder_parameters(),
        "pooler": architecture.pooler_parameters() if pooler else 0,
        "head": architecture.head_parameters(vocab_size) if head else 0,
    }


def _of_shape(
    name: str, architecture: Architecture, counts: Mapping[str, int], sequence_length: int, source: str
) -> dict[str, Any]:
    operations = architecture.operations(sequence_length)
    return _row(name, architecture, _with_totals(counts), "counted", source, sequence_length, operations)


def _with_totals(counts: Mapping[str, int]) -> dict[str, float | None]:
    total = sum(counts.values())
    return {"total": total, "bare": total - counts["pooler"] - counts["head"], **counts}


def _from_published(model: PublishedModel, sequence_length: int) -> dict[str, Any]:
    printed = f"; {model.millions:g} M printed in {model.source}" if model.millions else ""
    if model.counts is not None:
        source, operations = f"counts of its class{printed}", model.operations(sequence_length)
        return _row(model.title, None, _with_totals(model.counts), "counted", source, sequence_length, operations)
    counts = _counts(model.architecture, model.vocab_size, model.positions, model.token_types, pooler=model.pooler, head=model.head)
    source = f"closed form of the shape{printed}" if printed else model.source
    return _of_shape(model.title, model.architecture, counts, sequence_length, source)


def _printed(size: PublishedSize, architecture: Architecture) -> dict[str, Any]:
    counts: dict[str, float | None] = dict.fromkeys(("bare", "norm", "encoder", "pooler", "head"))
    counts |= {"total": size.parameters * 1e6, "embedding": size.embedding * 1e6}
    row = _row(f"{size.name}, as printed", architecture, counts, "printed", size.source, SEQUENCE_LENGTH, None)
    return {**row, "encoder_proportion": size.encoder_proportion / 100}


def _from_directory(directory: Path, sequence_length: int) -> dict[str, Any]:
    """Counts the weights of a transformers directory from the headers of its safetensors files, without loading them."""
    if not (directory / "config.json").is_file():
        raise BortError(f"{directory} has no config.json: a model in transformers layout (config.json and weights) is needed.")
    config = read_json(directory / "config.json")
    index = directory / "model.safetensors.index.json"
    files = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    shapes: dict[str, int] = {}
    for file in files:
        shapes |= _tensor_sizes(directory / file)
    counts = {"embedding": 0, "norm": 0, "encoder": 0, "pooler": 0, "head": 0}
    for name, size in shapes.items():
        counts[_part(name)] += size
    values = [config.get(key) for key in (_DISTILBERT_SHAPE if config.get("model_type") == "distilbert" else _SHAPE)]
    shape = Architecture(*values) if all(isinstance(value, int) for value in values) else None
    operations = shape.operations(sequence_length) if shape and config.get("model_type") in _PLAIN else None
    source = f"weights in {directory}"
    return _row(directory.name, shape, _with_totals(counts), "counted", source, sequence_length, operations)


def _part(name: str) -> str:
    """Returns which part of a model a tensor belongs to, by its name in transformers' encoders."""
    if "pooler" in name:
        return "pooler"
    if name.startswith(_HEADS):
        return "head"
    if "embeddings" in name:
        return "norm" if "norm" in name.lower() else "embedding"
    return "encoder"


def _tensor_sizes(path: Path) -> dict[str, int]:
    """Returns the number of values of each float tensor in a safetensors file, from its header.

    A decoder tied to the word embedding is stored once, so what is counted is what is trained. Integer buffers, such as the
    position ids of old checkpoints, are not parameters.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = parse_json(file.read(length))
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        return {name: math.prod(one["shape"]) for name, one in tensors.items() if one["dtype"].startswith(("F", "BF"))}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise BortError(f"{path} cannot be read as safetensors: {error}.") from error
