"""Unlabelled text to deterministic batches: read, split by document, tokenise, pack, order, mask."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bort.corpus.build import build_corpus
    from bort.corpus.config import CorpusConfig, MaskingConfig
    from bort.corpus.masking import Masked, mask_blocks
    from bort.corpus.order import BlockOrder
    from bort.corpus.store import Blocks, Corpus
    from bort.corpus.tokenizer import special_ids, tokenizer_digest

__all__ = [
    "BlockOrder",
    "Blocks",
    "Corpus",
    "CorpusConfig",
    "Masked",
    "MaskingConfig",
    "build_corpus",
    "mask_blocks",
    "special_ids",
    "tokenizer_digest",
]

_HOMES = {
    "BlockOrder": "order",
    "Blocks": "store",
    "Corpus": "store",
    "CorpusConfig": "config",
    "Masked": "masking",
    "MaskingConfig": "config",
    "build_corpus": "build",
    "mask_blocks": "masking",
    "special_ids": "tokenizer",
    "tokenizer_digest": "tokenizer",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for, so that the configuration alone stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
