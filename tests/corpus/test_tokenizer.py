from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bort.corpus.tokenizer import CONTINUED, CONTINUES, word_marks

TEXT = "the cat's 42 unhappiest, (bilingual) re-builders — café naïve 日本"
TRAINING = ["the cat sat unhappy happiest bilingual builder café naïve", "re build ers 4 2 a b c d e"] * 3


def wordpiece() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    core = Tokenizer(models.WordPiece(unk_token="<unk>"))
    core.normalizer = normalizers.BertNormalizer(strip_accents=False)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return core, trainers.WordPieceTrainer


def byte_level() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return core, trainers.BpeTrainer


def sentencepiece() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.Unigram())
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return core, trainers.UnigramTrainer


@pytest.mark.parametrize("make", [wordpiece, byte_level, sentencepiece])
def test_words_of_a_text_are_found_again(make: Any):
    from transformers import PreTrainedTokenizerFast

    core, trainer = make()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    extra = {"unk_token": "<unk>"} if make is sentencepiece else {}
    alphabet = sorted(set(TEXT) - {" "}) + [chr(code) for code in range(0xA1, 0x180)]
    size = 700 if make is byte_level else 400
    core.train_from_iterator(
        TRAINING, trainer(vocab_size=size, special_tokens=special, show_progress=False, initial_alphabet=alphabet, **extra)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, cls_token="<s>", pad_token="<pad>", sep_token="</s>", unk_token="<unk>", mask_token="<mask>"
    )
    marks = word_marks(tokenizer)
    assert marks.shape == (len(tokenizer),)
    assert not marks[tokenizer.all_special_ids].any()
    encoding = tokenizer.backend_tokenizer.encode(TEXT, add_special_tokens=False)
    ids = np.array(encoding.ids)
    begins = np.ones(len(ids), dtype=bool)
    begins[1:] = (marks[ids[1:]] & CONTINUES == 0) | (marks[ids[:-1]] & CONTINUED == 0)
    found, start = [], 0
    spans = encoding.offsets
    for place in [*np.flatnonzero(begins)[1:], len(ids)]:
        found.append(TEXT[spans[start][0] : spans[place - 1][1]].strip())
        start = place
    found = [word for word in found if word]
    assert "".join(found) == TEXT.replace(" ", "")
    words = ["the", "cat", "42", "unhappiest", "bilingual", "builders", "café", "naïve"]
    assert [word for word in words if word in found] == words
    assert len(ids) > len(found) > 14


def test_a_tokenizer_of_words_has_no_joints():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<unk>": 0, "one": 1, "two": 2}, unk_token="<unk>"))
    assert word_marks(PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")).tolist() == [0, 0, 0]


def test_ends_of_words_are_read_too():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE({"a": 0, "b</w>": 1}, [], end_of_word_suffix="</w>"))
    assert word_marks(PreTrainedTokenizerFast(tokenizer_object=core)).tolist() == [CONTINUES | CONTINUED, CONTINUES]


def test_the_corpus_carries_the_marks(tiny_text_directory: Path, tiny_tokenizer: Any, tmp_path: Path):
    from bort.corpus.build import build_corpus
    from bort.corpus.config import CorpusConfig
    from bort.corpus.dataset import Corpus
    from bort.errors import RecordError

    build_corpus(CorpusConfig(path=str(tiny_text_directory), block_length=32), tiny_tokenizer, tmp_path)
    marks = Corpus.open(tmp_path).words
    assert marks is not None
    assert (marks == word_marks(tiny_tokenizer)).all()
    (tmp_path / "words.npy").write_bytes(b"damaged")
    with pytest.raises(RecordError, match=r"words\.npy.*build the corpus again"):
        _ = Corpus.open(tmp_path).words
    (tmp_path / "words.npy").unlink()
    assert Corpus.open(tmp_path).words is None
