from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from bort.corpus.config import CorpusConfig
from bort.corpus.readers import documents, files_of, is_hub
from bort.errors import BortError, ConfigurationError

TEXTS = ["one short story", "two stories, with a comma", 'a third "quoted" one']


def read(config: CorpusConfig) -> list[str]:
    return [document.text for document in documents(config, files_of(config))]


def test_blank_lines_separate_plain_documents(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one\nstill one\n\n\ntwo\n", encoding="utf-8")
    found = list(documents(config := CorpusConfig(path=str(tmp_path)), files_of(config)))
    assert [document.text.split() for document in found if document.text.strip()] == [["one", "still", "one"], ["two"]]
    assert found[0].place.endswith("a.txt:1")


def test_a_pattern_starts_documents(tmp_path: Path):
    text = "\n = First = \n\nwords\n\n = = Section = = \n\nmore\n\n = Second = \n\nend\n"
    (tmp_path / "wiki.raw.gz").write_bytes(gzip.compress(text.encode()))
    found = read(CorpusConfig(path=str(tmp_path), document=r"^ = (?!= ).*(?<! =) = $"))
    assert [text.strip().splitlines()[0] for text in found if text.strip()] == ["= First = ", "= Second = "]
    assert "= = Section = =" in found[1]


def test_a_pattern_that_never_matches_keeps_files_whole(tmp_path: Path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one\n\ntwo\n", encoding="utf-8")
    assert read(CorpusConfig(path=str(tmp_path), document="(?!)")) == ["one\n\ntwo\n"] * 2


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".parquet"])
def test_columns_of_every_format(tmp_path: Path, suffix: str):
    path = tmp_path / f"data{suffix}"
    rows = [{"number": number, "story": text} for number, text in enumerate(TEXTS)]
    kind = suffix.removesuffix(".gz")
    if kind == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with (gzip.open if suffix.endswith(".gz") else open)(path, "wt", encoding="utf-8", newline="") as file:
            if kind == ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                writer = csv.DictWriter(file, ["number", "story"], delimiter="\t" if kind == ".tsv" else ",")
                writer.writeheader()
                writer.writerows(rows)
    assert read(CorpusConfig(path=str(path), text_column="story")) == TEXTS
    with pytest.raises(ConfigurationError, match=r"corpus\.text_column=text.*columns: number, story"):
        read(CorpusConfig(path=str(path)))
    with pytest.raises(ConfigurationError if kind in (".jsonl", ".parquet") else AssertionError, match=r"text is needed|assert"):
        # Tables of text have nothing but text, so that every column of theirs can be read.
        assert read(CorpusConfig(path=str(path), text_column="number")) == []


def test_files_are_found_by_pattern_and_sorted(tmp_path: Path):
    for name in ("b.txt", "a.md", "deep/c.txt", "notes.doc", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    names = [path.name for path in files_of(CorpusConfig(path=str(tmp_path)))]
    assert names == ["a.md", "b.txt", "c.txt"]
    assert [path.name for path in files_of(CorpusConfig(path=str(tmp_path), pattern=["deep/*", "*.doc"]))] == ["c.txt", "notes.doc"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"text\n\0\1\2", r"a\.txt cannot be read as text: line 2 holds a zero byte"),
        ("a.txt.gz", b"not compressed", r"a\.txt\.gz cannot be read: Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"words " * 1000)[:-20], r"a\.txt\.gz cannot be read"),
        ("a.jsonl", b'{"text": "one"}\n{"text": \n', r"a\.jsonl:2 is not a line of JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1 is not a JSON object"),
        ("a.parquet", b"PAR1 but not really", r"a\.parquet cannot be read as parquet"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, sentence: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BortError, match=sentence):
        read(CorpusConfig(path=str(tmp_path)))


def test_what_is_not_there_is_refused(tmp_path: Path):
    for config, sentence in (
        (CorpusConfig(path=str(tmp_path / "missing")), "does not exist"),
        (CorpusConfig(path=str(tmp_path)), "holds no file ending in"),
        (CorpusConfig(path=str(tmp_path), pattern=["*.txt"]), r"no file in it matches corpus\.pattern=\[\*\.txt\]"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            files_of(config)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(ConfigurationError, match=r"files ending in \.txt"):
        files_of(CorpusConfig(path=str(tmp_path / "picture.png")))


def test_a_hub_id_is_told_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    assert is_hub(CorpusConfig(path="wikimedia/wikipedia"))
    for path in ("texts", "texts/missing", "/nowhere/at/all", "missing.txt", "./missing"):
        assert not is_hub(CorpusConfig(path=path))


def test_a_hub_data_set_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    config = CorpusConfig(path="owner/name", subset="english", revision="abc123")
    with pytest.raises(
        BortError, match=r"owner/name.*parquet files of english at revision abc123.*corpus\.path=FOLDER.*ConnectionError"
    ):
        list(documents(config, []))


def test_hub_rows_are_read_in_order(monkeypatch: pytest.MonkeyPatch):
    import datasets

    asked = {}

    def load(path: str, **named: object) -> list[dict[str, str]]:
        asked.update(named, path=path)
        return [{"text": text} for text in TEXTS]

    monkeypatch.setattr(datasets, "load_dataset", load)
    config = CorpusConfig(path="owner/name", subset="english", revision="abc123")
    assert [document.text for document in documents(config, [])] == TEXTS
    assert asked == {"path": "owner/name", "name": "english", "split": "train", "revision": "abc123", "streaming": True}
