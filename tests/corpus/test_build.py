from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bort.corpus import encode, pack
from bort.corpus import shards as parts
from bort.corpus.build import build_corpus
from bort.corpus.config import CleaningConfig, CorpusConfig, MaskingConfig, SourceConfig
from bort.corpus.dataset import Corpus
from bort.corpus.masking import mask_blocks
from bort.corpus.tokenizer import bare_tokenizer, special_ids, tokenizer_digest
from bort.errors import BortError, ConfigurationError, RecordError
from bort.files import read_json
from bort.observer import Quiet
from bort.settings import check_settings


@pytest.fixture
def config(tiny_text_directory: Path) -> CorpusConfig:
    return CorpusConfig(path=str(tiny_text_directory), block_length=32, heldout=0.1)


def content(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if not key.endswith("seconds")}


def test_blocks_are_full_and_hold_every_token_once(
    config: CorpusConfig, tiny_documents: list[str], tiny_tokenizer: Any, tmp_path: Path
):
    record = build_corpus(config, tiny_tokenizer, tmp_path)
    corpus = Corpus.open(tmp_path, verify=True)
    assert record == read_json(tmp_path / "corpus.json") == corpus.record
    assert record["documents"] == {"train": 72, "heldout": 8}
    assert len(corpus.train) == record["blocks"]["train"] > 100
    assert corpus.train.array.dtype == np.uint16
    assert not (tmp_path / "parts").exists()
    expected = sorted(tuple(ids) for ids in tiny_tokenizer(tiny_documents, add_special_tokens=False)["input_ids"])
    found = []
    for blocks, split in ((corpus.train, "train"), (corpus.heldout, "heldout")):
        rows = blocks[:]
        assert rows.shape == (len(blocks), 32)
        assert (rows[:, 0] == corpus.special["cls"]).all()
        assert (rows[:, -1] == corpus.special["sep"]).all()
        inner = rows[:, 1:-1].ravel()
        assert not np.isin(inner, [corpus.special[name] for name in ("cls", "pad", "mask")]).any()
        documents = np.split(inner, np.flatnonzero(inner == corpus.special["sep"]))
        found += [tuple(document[document != corpus.special["sep"]].tolist()) for document in documents[:-1]]
        assert record["tokens"][split] + record["documents"][split] - 1 == inner.size + record["dropped_tokens"][split]
    # All documents but the last of each split, whose end may not fill a block.
    assert len(found) >= 78
    assert set(found) <= set(expected)


def test_rows_come_in_the_order_asked_for(config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path):
    build_corpus(config, tiny_tokenizer, tmp_path)
    train = Corpus.open(tmp_path).train
    assert train[np.array([5, 0, 5])].tolist() == [train[[5]][0].tolist(), train[[0]][0].tolist(), train[[5]][0].tolist()]
    assert train[[1]].dtype == np.int64


def test_the_result_depends_on_text_and_seed_alone(
    config: CorpusConfig, tiny_documents: list[str], tiny_tokenizer: Any, tmp_path: Path
):
    first = build_corpus(config, tiny_tokenizer, tmp_path / "first")
    renamed = tmp_path / "text"
    renamed.mkdir()
    (renamed / "z.txt").write_text("\n\n".join(tiny_documents[:3]) + "\n", encoding="utf-8")
    (renamed / "a.txt").write_text("\n\n".join(reversed(tiny_documents[3:])) + "\n", encoding="utf-8")
    moved = build_corpus(replace(config, path=str(renamed)), tiny_tokenizer, tmp_path / "moved")
    assert moved["digest"] == first["digest"]
    other = build_corpus(replace(config, seed=1), tiny_tokenizer, tmp_path / "other")
    assert other["digest"] != first["digest"]


def test_equal_documents_are_never_on_both_sides(tiny_documents: list[str], tiny_tokenizer: Any, tmp_path: Path):
    import json

    rows = [json.dumps({"text": text}) for text in tiny_documents[:10] * 8]
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    config = CorpusConfig(path=str(tmp_path / "a.jsonl"), block_length=16, heldout=0.25)
    record = build_corpus(config, tiny_tokenizer, tmp_path / "corpus")
    assert record["documents"] == {"train": 56, "heldout": 24}


def test_a_second_call_finds_the_corpus(config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = build_corpus(config, tiny_tokenizer, tmp_path)
    monkeypatch.setattr("bort.corpus.build.write_parts", None)
    assert build_corpus(config, tiny_tokenizer, tmp_path) == record


class Stop(Exception):
    pass


class Interrupting(Quiet):
    """Stops a build after so many parts."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.read: list[int] = []

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        self.read.append(int(note.split()[0]))
        if len(self.read) == self.parts:
            raise Stop


@pytest.mark.parametrize("damage", ["none", "tokens", "index", "behind"])
def test_an_interrupted_build_goes_on(
    config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
):
    monkeypatch.setattr(parts, "PART_CHARACTERS", 1500)
    config.cleaning = CleaningConfig(near_duplicates=0.9, min_words=20)
    whole = build_corpus(config, tiny_tokenizer, tmp_path / "whole")
    observer = Interrupting(4)
    with pytest.raises(Stop):
        build_corpus(config, tiny_tokenizer, tmp_path / "killed", observer=observer)
    folder = tmp_path / "killed" / "parts"
    assert len(list(folder.glob("*.safetensors"))) == 4
    tokens, third = folder / "tokens.bin", folder / "000002.safetensors"
    if damage == "tokens":
        tokens.write_bytes(tokens.read_bytes()[:-10])
    elif damage == "index":
        third.write_bytes(third.read_bytes()[:100])
    elif damage == "behind":
        # What a kill leaves between the tokens and their index.
        tokens.write_bytes(tokens.read_bytes() + b"half a part")
    kept = {"none": 4, "behind": 4, "tokens": 3, "index": 2}[damage]
    seen = 0
    call = encode.Encoder.__call__

    def counting(self: encode.Encoder, documents: list[Any]) -> encode.Encoded:
        nonlocal seen
        seen += len(documents)
        return call(self, documents)

    monkeypatch.setattr(encode.Encoder, "__call__", counting)
    resumed = build_corpus(config, tiny_tokenizer, tmp_path / "killed")
    assert content(resumed) == content(whole)
    assert seen == 80 - observer.read[kept - 1]


@pytest.mark.parametrize("moment", ["append", "save", "pack"])
def test_a_killed_build_ends_with_the_same_bytes(
    config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    monkeypatch.setattr(parts, "PART_CHARACTERS", 1500)
    config.cleaning = CleaningConfig(duplicates=True, near_duplicates=0.9)
    whole = build_corpus(config, tiny_tokenizer, tmp_path / "whole")
    child = os.fork()
    if child == 0:
        # In the middle of the third part, after its tokens or after its index, or with one split packed.
        module, name, calls = {
            "append": (parts, "_append", 5),
            "save": (parts, "_write_part", 3),
            "pack": (pack, "_write_split", 1),
        }[moment]
        original = getattr(module, name)
        made = itertools.count(1)

        def killing(*arguments: Any) -> Any:
            result = original(*arguments)
            if next(made) == calls:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(module, name, killing)
        build_corpus(config, tiny_tokenizer, tmp_path / "killed")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert (tmp_path / "killed" / "parts" / "tokens.bin").exists()
    assert content(build_corpus(config, tiny_tokenizer, tmp_path / "killed")) == content(whole)
    for name in ("train.npy", "heldout.npy", "words.npy"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_full_disk_is_told(config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parts, "_append", full)
    with pytest.raises(BortError, match=r"corpus: the disk is full"):
        build_corpus(config, tiny_tokenizer, tmp_path / "corpus")


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_special_tokens_are_the_tokenizers_own(
    family: str, config: CorpusConfig, tiny_documents: list[str], tiny_roberta_directory: Path, tmp_path: Path
):
    from transformers import AutoTokenizer

    if family == "roberta":
        tokenizer = AutoTokenizer.from_pretrained(tiny_roberta_directory)
    else:
        from transformers import MPNetTokenizerFast

        words = sorted({word for text in tiny_documents for word in text.split()})
        vocabulary = {token: place for place, token in enumerate(["<s>", "<pad>", "</s>", "[UNK]", *words, "<mask>"])}
        tokenizer = MPNetTokenizerFast(vocab=vocabulary)
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "mask")}
    build_corpus(config, tokenizer, tmp_path)
    corpus = Corpus.open(tmp_path, verify=True)
    assert special.items() <= corpus.special.items()
    rows = corpus.train[:]
    assert (rows[:, 0] == special["cls"]).all()
    assert (rows[:, -1] == special["sep"]).all()
    for whole_words in (False, True):
        masking = MaskingConfig(whole_words=whole_words)
        masked = mask_blocks(rows, np.arange(len(rows)), 0, masking, corpus.special, corpus.vocab_size, corpus.words)
        assert not np.isin(masked.labels, list(special.values())).any()
        assert (masked.input_ids == special["mask"]).sum() > 0.7 * masked.labels.size
    encoded = tokenizer(tiny_documents, add_special_tokens=False)["input_ids"]
    assert any(ids[:20] == rows[0, 1:21].tolist() for ids in encoded)


def test_the_result_is_the_same_for_any_number_of_processes(
    config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parts, "PART_CHARACTERS", 1500)
    first = build_corpus(config, tiny_tokenizer, tmp_path / "one")
    with pytest.raises(Stop):
        build_corpus(config, tiny_tokenizer, tmp_path / "two", workers=2, observer=Interrupting(2))
    assert content(build_corpus(config, tiny_tokenizer, tmp_path / "two")) == content(first)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "' + "the cat " * 400 + '"}\n{"text": "a \\ud800 b"}\n', encoding="utf-8")
    with pytest.raises(BortError, match=r"broken\.jsonl:2 is not valid UTF-8"):
        build_corpus(replace(config, path=str(broken)), tiny_tokenizer, tmp_path / "three", workers=2)


def test_an_interrupted_build_of_other_text_is_begun_again(
    config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bort.corpus.build.pack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build_corpus(replace(config, max_documents=20), tiny_tokenizer, tmp_path)
    monkeypatch.undo()
    assert sum(build_corpus(config, tiny_tokenizer, tmp_path)["documents"].values()) == 80


def test_a_corpus_of_other_settings_is_refused(config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path):
    build_corpus(config, tiny_tokenizer, tmp_path)
    with pytest.raises(RecordError, match="a corpus of other settings"):
        build_corpus(replace(config, block_length=16), tiny_tokenizer, tmp_path)


def test_max_documents_reads_the_first(config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path):
    record = build_corpus(replace(config, max_documents=30), tiny_tokenizer, tmp_path)
    assert record["documents"] == {"train": 27, "heldout": 3}


def test_broken_utf8_is_refused_or_skipped_and_counted(tiny_text_directory: Path, tiny_tokenizer: Any, tmp_path: Path):
    folder = tmp_path / "text"
    shutil.copytree(tiny_text_directory, folder)
    (folder / "broken.txt").write_bytes(b"a good one\n\na bad \xff\xfe one\n")
    config = CorpusConfig(path=str(folder), block_length=32)
    with pytest.raises(BortError, match=r"broken\.txt:2 is not valid UTF-8.*corpus\.invalid_utf8=skip"):
        build_corpus(config, tiny_tokenizer, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    (folder / "broken.txt").write_bytes(b"a good one\n\nan odd\nline \0 here\n")
    with pytest.raises(BortError, match=r"broken\.txt:2 holds a zero byte, as binary files do"):
        build_corpus(config, tiny_tokenizer, tmp_path / "refused")
    record = build_corpus(replace(config, invalid_utf8="skip"), tiny_tokenizer, tmp_path / "skipped")
    assert record["invalid_documents"] == 1
    assert sum(record["documents"].values()) == 81


@pytest.mark.parametrize(
    ("text", "change", "sentence"),
    [
        ("", {}, r"corpus\.path=.*a source of text, and this one has none"),
        (" \n\n \n", {}, r"corpus\.path=.*a source of text, and this one has none"),
        ("one document alone", {}, r"corpus\.heldout=0\.05.*must be 0, as the 1 document\(s\)"),
        ("one document alone", {"heldout": 0.0}, r"corpus\.block_length=128.*which fill no block of 128"),
        ("the cat\n\n" + "the river watches the city " * 100, {"seed": 1}, r"corpus\.(heldout|block_length)=.*which fill no block"),
    ],
)
def test_too_little_text_is_refused(text: str, change: dict[str, Any], sentence: str, tiny_tokenizer: Any, tmp_path: Path):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    config = CorpusConfig(path=str(tmp_path / "a.txt"), **change)
    with pytest.raises(ConfigurationError, match=sentence):
        build_corpus(config, tiny_tokenizer, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"path": ""}, "corpus.path"),
        ({"heldout": 1.0}, "corpus.heldout"),
        ({"block_length": 4}, "corpus.block_length"),
        ({"max_documents": 0}, "corpus.max_documents"),
        ({"seed": -1}, "corpus.seed"),
        ({"invalid_utf8": "guess"}, "corpus.invalid_utf8"),
        ({"document": "("}, "corpus.document"),
        ({"rows_per_document": 0}, "corpus.rows_per_document"),
        ({"markup": ["tex"]}, "corpus.markup"),
        ({"sources": [SourceConfig(path="a"), SourceConfig(path="b")]}, "corpus.sources"),
        ({"sources": [SourceConfig(name="a")]}, "corpus.sources.0.path"),
        ({"sources": [SourceConfig(name="a", path="b")], "path": "./nowhere"}, "corpus.path"),
        ({"cleaning": CleaningConfig(min_words=-1)}, "corpus.cleaning.min_words"),
        ({"cleaning": CleaningConfig(language="xx")}, "corpus.cleaning.language"),
        ({"cleaning": CleaningConfig(language_score=0.0)}, "corpus.cleaning.language_score"),
        ({"cleaning": CleaningConfig(near_duplicates=0.1)}, "corpus.cleaning.near_duplicates"),
        ({"cleaning": CleaningConfig(shingle_words=0)}, "corpus.cleaning.shingle_words"),
    ],
)
def test_settings_out_of_range_are_refused(config: CorpusConfig, change: dict[str, Any], key: str):
    with pytest.raises(ConfigurationError) as refused:
        check_settings(replace(config, **change), "corpus")
    assert refused.value.key == key


def test_sources_are_mixed_and_counted(tiny_documents: list[str], tiny_tokenizer: Any, tmp_path: Path):
    import json

    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.txt").write_text("\n\n".join(tiny_documents[:40]), encoding="utf-8")
    lines = [json.dumps({"story": text}) for text in tiny_documents[40:]]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = SourceConfig(name="rows", path=str(tmp_path / "rows.jsonl"), text_column="story")
    config = CorpusConfig(path=str(tmp_path), sources=[SourceConfig(name="plain", path="far/away"), rows], block_length=32)
    record = build_corpus(config, tiny_tokenizer, tmp_path / "corpus")
    assert [(source["name"], source["documents"]) for source in record["by_source"]] == [("plain", 40), ("rows", 40)]
    assert sum(source["tokens"] for source in record["by_source"]) == sum(record["tokens"].values())
    whole = tmp_path / "whole.txt"
    whole.write_text("\n\n".join(tiny_documents), encoding="utf-8")
    other = build_corpus(CorpusConfig(path=str(whole), block_length=32), tiny_tokenizer, tmp_path / "other")
    assert record["digest"] == other["digest"]


def test_special_tokens_in_a_text_are_text(tiny_tokenizer: Any, tmp_path: Path):
    (tmp_path / "a.txt").write_text("the [MASK] and [SEP] of a city\n\n" * 40, encoding="utf-8")
    build_corpus(CorpusConfig(path=str(tmp_path / "a.txt"), block_length=16, heldout=0.0), tiny_tokenizer, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus")
    assert not (corpus.train[:] == corpus.special["mask"]).any()
    assert len(corpus.heldout) == 0
    assert corpus.heldout[[]].shape == (0, 16)


def test_a_saved_tokenizers_truncation_is_ignored(tiny_tokenizer: Any):
    import copy

    truncating = copy.deepcopy(tiny_tokenizer)
    truncating.backend_tokenizer.enable_truncation(4)
    truncating.backend_tokenizer.enable_padding(length=4)
    assert tokenizer_digest(truncating) == tokenizer_digest(tiny_tokenizer)
    assert len(bare_tokenizer(truncating).encode("the cat watches the long road again", add_special_tokens=False).ids) > 4
    assert truncating.backend_tokenizer.truncation["max_length"] == 4


def test_tokenizers_that_cannot_serve_are_refused():
    class Slow:
        cls_token_id = sep_token_id = pad_token_id = 0
        mask_token_id = None

    with pytest.raises(BortError, match="no mask token"):
        special_ids(Slow())
    with pytest.raises(BortError, match="no fast tokenizer"):
        bare_tokenizer(Slow())


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "record"])
def test_damaged_corpora_are_refused(config: CorpusConfig, tiny_tokenizer: Any, tmp_path: Path, damage: str):
    build_corpus(config, tiny_tokenizer, tmp_path)
    path = tmp_path / "train.npy"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(whole[:-10])
    elif damage == "changed":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        (tmp_path / "corpus.json").unlink()
    with pytest.raises(RecordError, match=r"bort corpus|build the corpus again"):
        Corpus.open(tmp_path, verify=True)


def test_a_long_document_is_cut_into_pieces_without_loss(tiny_documents: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encode, "PIECE_CHARACTERS", 100)
    for text in ("\n".join(tiny_documents), " ".join(tiny_documents), "x" * 1050):
        pieces = encode._pieces(text)
        assert "".join(pieces) == text
        assert max(len(piece) for piece in pieces) <= 100
