from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from bort.corpus.config import CorpusConfig, SourceConfig
from bort.corpus.data_sets import is_hub
from bort.corpus.readers import Document, FileRows, files_of
from bort.corpus.sources import Reader
from bort.errors import BortError, ConfigurationError

TEXTS = ["one short story", "two stories, with a comma", 'a third "quoted" one']


def documents(config: CorpusConfig) -> list[Document]:
    return list(Reader(config, [None] * len(config.all_sources())))


def read(config: CorpusConfig) -> list[str]:
    return [document.text for document in documents(config)]


def test_blank_lines_separate_plain_documents(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one\nstill one\n\n\ntwo\n", encoding="utf-8")
    found = documents(CorpusConfig(path=str(tmp_path)))
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


def write_parquet(path: Path, texts: list[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist([{"text": text} for text in texts]), path, row_group_size=2)


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
    with pytest.raises(ConfigurationError if kind in (".jsonl", ".parquet") else AssertionError, match=r"a column of text|assert"):
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
        ("a.txt.gz", b"not compressed", r"a\.txt\.gz cannot be read: Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"words " * 1000, mtime=0)[:-20], r"a\.txt\.gz cannot be read"),
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
        (CorpusConfig(path=str(tmp_path / "missing")), "an existing file or folder"),
        (CorpusConfig(path=str(tmp_path)), "a folder with a file ending in"),
        (CorpusConfig(path=str(tmp_path), pattern=["*.txt"]), r"a folder with a file that matches corpus\.pattern=\[\*\.txt\]"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            files_of(config)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(ConfigurationError, match=r"file ending in \.txt"):
        files_of(CorpusConfig(path=str(tmp_path / "picture.png")))


def test_a_hub_id_is_told_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    assert is_hub(CorpusConfig(path="wikimedia/wikipedia"))
    for path in ("texts", "texts/missing", "/nowhere/at/all", "missing.txt", "./missing"):
        assert not is_hub(CorpusConfig(path=path))


def test_rows_are_joined_to_documents(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"s{number}"}) + "\n" for number in range(5)), encoding="utf-8")
    config = CorpusConfig(path=str(tmp_path / "a.jsonl"), rows_per_document=2)
    assert read(config) == ["s0\ns1", "s2\ns3", "s4"]
    assert documents(config)[1].place.endswith("a.jsonl:3")


def test_files_of_the_wanted_split_and_subset_are_read(tmp_path: Path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write_parquet(tmp_path / "data" / f"{name}.parquet", [name])
    config = CorpusConfig(path=str(tmp_path))
    assert read(config) == ["train-00000-of-00002", "train-00001-of-00002"]
    assert read(replace(config, split="test")) == ["test-00000-of-00001"]
    with pytest.raises(ConfigurationError, match=r"corpus\.split=dev.*one of test, train"):
        read(replace(config, split="dev"))
    write_parquet(tmp_path / "plain" / "test" / "0000.parquet", ["one"])
    write_parquet(tmp_path / "plain" / "train" / "0000.parquet", ["two"])
    write_parquet(tmp_path / ".cache" / "train" / "0000.parquet", ["hidden"])
    assert read(replace(config, folder="plain")) == read(replace(config, subset="plain")) == ["two"]


def test_parquet_that_is_not_utf8_comes_through(tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    broken = pyarrow.Array.from_buffers(
        pyarrow.string(), 2, [None, pyarrow.py_buffer(b"\0\0\0\0\4\0\0\0\6\0\0\0"), pyarrow.py_buffer(b"goodb\xff")]
    )
    parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "a.parquet")
    assert read(CorpusConfig(path=str(tmp_path))) == ["good", "b\udcff"]


@pytest.mark.parametrize("stop", [1, 3, 4, 7, 8])
def test_reading_goes_on_where_it_stopped(tmp_path: Path, stop: int):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.jsonl").write_text('{"text": "1"}\n{"text": "2"}\n{"text": "3"}\n', encoding="utf-8")
        (tmp_path / name / "two.txt").write_text("4\n\n5\n", encoding="utf-8")
    sources = [SourceConfig(name="a", path="nowhere"), SourceConfig(name="b", path=str(tmp_path / "b"), max_documents=5)]
    config = CorpusConfig(path=str(tmp_path), sources=sources, max_documents=4)
    whole = documents(config)
    assert [(document.source, document.text.strip()) for document in whole] == [
        *((0, text) for text in "1234"),
        *((1, text) for text in "12345"),
    ]
    reader = Reader(config, [None, None])
    begun = list(islice(iter(reader), stop))
    position = json.loads(json.dumps(reader.position()))
    assert [*begun, *Reader(config, [None, None], position)] == whole


def test_files_before_the_place_are_not_opened_again(tmp_path: Path):
    files = [tmp_path / "gone.jsonl", tmp_path / "here.txt"]
    files[1].write_text("one\n\ntwo\n", encoding="utf-8")
    rows = FileRows(SourceConfig(), "corpus", files, {"file": 1, "documents": 1})
    assert [document.text.strip() for document in rows] == ["two"]
