"""What the rooms need to know of a tokenizer: its identity, its special tokens, and its bare encoder."""

from __future__ import annotations

import hashlib
from typing import Any

from bort.errors import BortError

#: The special tokens a corpus and its masks need, and the name transformers gives each.
_NEEDED = {"cls": "cls_token_id", "sep": "sep_token_id", "pad": "pad_token_id", "mask": "mask_token_id"}


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Returns the ids of ``cls``, ``sep``, ``pad`` and ``mask``, and of ``unk`` where there is one.

    Raises:
        BortError: The tokenizer lacks one of the first four, which masked-language-model training needs.
    """
    ids = {name: getattr(tokenizer, attribute, None) for name, attribute in _NEEDED.items()}
    missing = [name for name, value in ids.items() if value is None]
    if missing:
        raise BortError(
            f"The teacher's tokenizer has no {', '.join(missing)} token; a masked language model's tokenizer has all four."
        )
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is not None:
        ids["unk"] = unknown
    return {name: int(value) for name, value in ids.items() if value is not None}


def bare_tokenizer(tokenizer: Any) -> Any:
    """Returns a copy of the Rust tokenizer that neither truncates nor pads, and reads ``[MASK]`` in a text as text.

    Saved tokenizers often carry the truncation and padding of the task they were tuned for, which would cut documents short.

    Args:
        tokenizer: A fast tokenizer of transformers.

    Raises:
        BortError: The tokenizer is not a fast one.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise BortError(
            "The teacher has no fast tokenizer; save one with it (tokenizer.json), e.g. by AutoTokenizer…save_pretrained."
        )
    bare = Tokenizer.from_str(backend.to_str())
    read_text_alone(bare)
    return bare


def read_text_alone(core: Any) -> None:
    """Makes a Rust tokenizer neither truncate nor pad, and read ``[MASK]`` in a text as text: it does not save the last."""
    core.no_truncation()
    core.no_padding()
    core.encode_special_tokens = True


def tokenizer_digest(tokenizer: Any, bare: Any | None = None) -> str:
    """Returns the SHA-256 (hexadecimal) of what decides the tokens of a text: vocabulary, normaliser, merges, special tokens.

    Args:
        tokenizer: A fast tokenizer of transformers.
        bare: What :func:`bare_tokenizer` made of it, where it is at hand: making it takes a tenth of a second.
    """
    described = (bare or bare_tokenizer(tokenizer)).to_str() + repr(sorted(special_ids(tokenizer).items()))
    return hashlib.sha256(described.encode("utf-8")).hexdigest()
