"""Unlabelled text to deterministic batches: read, split by document, tokenise, pack, order, mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bort.lazy import lazily

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

__getattr__ = lazily(__name__, _HOMES)
