"""What the rooms need to know of a tokenizer: its identity, its special tokens, and its bare encoder."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


#: A token with the first bit belongs to the word of the token before it, if that one has the second.
CONTINUES, CONTINUED = np.uint8(1), np.uint8(2)


def word_marks(tokenizer: Any) -> NDArray[np.uint8]:
    """Returns how each token of the vocabulary joins its neighbours, [vocab_size]: :data:`CONTINUES` and :data:`CONTINUED`.

    A WordPiece token that begins with the prefix for continuations (``##``) continues a word. Tokenizers that mark the space
    before a word (``Ġ``, ``▁``) do not mark punctuation: there a token without the mark continues a word if letters or digits meet.
    Special tokens are words for themselves, as is every token of a tokenizer that knows no marks.

    Args:
        tokenizer: A fast tokenizer of transformers.
    """
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    model = core["model"]
    kind = model["type"]
    prefix, suffix = model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")
    parts = [part for key in ("pre_tokenizer", "decoder") for part in _parts(core.get(key))]
    byte_level = any(part["type"] == "ByteLevel" for part in parts)
    marked = next((str(part["replacement"]) for part in parts if part["type"] == "Metaspace"), "▁")
    space = marked if kind == "Unigram" or any(part["type"] == "Metaspace" for part in parts) else ""
    special = set(tokenizer.all_special_ids) | {item["id"] for item in core.get("added_tokens", [])}
    marks = np.zeros(len(tokenizer), dtype=np.uint8)
    to_byte = _bytes_of_characters()
    for token, number in tokenizer.get_vocab().items():
        if number in special or number >= len(marks):
            continue
        if prefix:
            marks[number] = CONTINUED | (CONTINUES if token.startswith(prefix) else 0)
        elif suffix:
            marks[number] = CONTINUES | (0 if token.endswith(suffix) else CONTINUED)
        elif byte_level or space:
            # A token may be part of a character only: what cannot be decoded belongs to a character of a word.
            text = bytes(to_byte[c] for c in token if c in to_byte).decode("utf-8", "replace") if byte_level else token
            text = text if byte_level else text.replace(space, " ")
            # The mark of a space can stand alone, before a word of which no more is in the vocabulary.
            marks[number] = (CONTINUES if _in_word(text[:1]) else 0) | (CONTINUED if text == " " or _in_word(text[-1:]) else 0)
    return marks


def _parts(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    return [part for key in ("pretokenizers", "decoders") for item in component.get(key, []) for part in _parts(item)]


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "�"


def _bytes_of_characters() -> dict[str, int]:
    """Returns the bytes that the printable characters of a byte-level vocabulary stand for, as GPT-2 defined them."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
