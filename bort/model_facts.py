"""Facts about models of transformers that several packages depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Model types whose position ids start at the padding id plus one, as RoBERTa's: the rows below are never used.
COUNTS_FROM_PADDING = frozenset(
    {"camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"}
    | {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)


def position_offset(model_type: str, pad_token_id: int | None) -> int:
    """Return the number of position embeddings that no token can use.

    Args:
        model_type: As in ``config.json``.
        pad_token_id: RoBERTa's own, 1, if ``None``.
    """
    if model_type not in COUNTS_FROM_PADDING:
        return 0
    # MPNet counts from 1 whatever its padding id.
    return 2 if pad_token_id is None or model_type == "mpnet" else pad_token_id + 1


def usable_positions(config: Any, at_most: int = 512) -> int:
    """Return the length of the longest sequence that a model of this transformers configuration can read, up to ``at_most``."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions:
        return at_most
    return int(min(at_most, positions - position_offset(config.model_type, getattr(config, "pad_token_id", None))))


def is_multiple_choice(model: Any) -> bool:
    """Return whether a model takes options, [B, options, S], as multiple-choice models of transformers do."""
    return type(model).__name__.endswith("ForMultipleChoice")


def first_output(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return a model's hidden states or logits for sequences.

    A multiple-choice model returns one logit per sequence, [B, 1]: each sequence becomes the only option of its question, so
    questions can have any number of options.

    Args:
        model: A transformers model, or a module that returns its logits.
        inputs: Keyword arguments of its forward pass, [B, S] each.
    """
    if is_multiple_choice(model):
        inputs = {name: value.unsqueeze(1) for name, value in inputs.items()}
    output = model(**inputs)
    first: Tensor = output[0] if isinstance(output, (tuple, dict)) else output
    return first
