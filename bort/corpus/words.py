"""Where words begin, told by the tokens alone: WordPiece's ``##``, byte-level BPE's ``Ġ``, SentencePiece's ``▁``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
