from __future__ import annotations

import json
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bort.corpus import data_sets
from bort.corpus.config import CorpusConfig, SourceConfig
from bort.corpus.data_sets import is_repository, is_saved, resolve
from bort.corpus.sources import Reader, commits_of, describe
from bort.errors import BortError, ConfigurationError

TEXTS = [f"text number {number}" for number in range(7)]
CARD = """---
configs:
- config_name: english
  data_files:
  - split: train
    path: parts/a-*.parquet
  - split: validation
    path: parts/b-*.parquet
---
Words about it.
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a data set repository, whose card says which files make up which split."""
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("repository")
    (folder / "parts").mkdir()
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    for name, texts in (("a-0", TEXTS[:4]), ("a-1", TEXTS[4:]), ("b-0", ["held out"])):
        table = pyarrow.Table.from_pylist([{"number": place, "text": text} for place, text in enumerate(texts)])
        parquet.write_table(table, folder / "parts" / f"{name}.parquet", row_group_size=2)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``save_to_disk`` writes."""
    import datasets

    folder = tmp_path_factory.mktemp("saved") / "set"
    split = datasets.Dataset.from_dict({"text": TEXTS})
    datasets.DatasetDict({"train": split}).save_to_disk(str(folder), num_shards={"train": 1})
    return folder


@pytest.fixture(params=["repository", "saved", "hub"])
def data_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CorpusConfig:
    """Every way in which a data set can be read."""
    if request.param != "hub":
        return CorpusConfig(path=str(request.getfixturevalue(request.param)))
    import datasets

    repository = request.getfixturevalue("repository")
    load = datasets.load_dataset

    def from_hub(path: str, **named: Any) -> Any:
        assert (path, named["revision"], named["streaming"]) == ("owner/name", "c0ffee", True)
        return load(str(repository), **{**named, "revision": None})

    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    return CorpusConfig(path="owner/name", revision="main")


def test_rows_are_read_in_order(data_set: CorpusConfig):
    found = list(Reader(data_set, ["c0ffee"]))
    assert [document.text for document in found] == TEXTS
    assert found[2].place.endswith(":3")


@pytest.mark.parametrize("stop", [1, 4, 6, 7])
def test_reading_goes_on_where_it_stopped(data_set: CorpusConfig, stop: int):
    reader = Reader(data_set, ["c0ffee"])
    assert [document.text for document in islice(iter(reader), stop)] == TEXTS[:stop]
    position = json.loads(json.dumps(reader.position()))
    assert [document.text for document in Reader(data_set, ["c0ffee"], position)] == TEXTS[stop:]


def test_settings_that_do_not_fit_are_refused(data_set: CorpusConfig):
    data_set.text_column = "words"
    with pytest.raises(ConfigurationError, match=r"corpus\.text_column=words.*text"):
        list(Reader(data_set, ["c0ffee"]))
    data_set.text_column, data_set.split = "text", "missing"
    with pytest.raises(BortError, match="missing"):
        list(Reader(data_set, ["c0ffee"]))


def test_kinds_of_folders_are_told_apart(repository: Path, saved: Path, tmp_path: Path):
    (tmp_path / "README.md").write_text("# Notes\n", encoding="utf-8")
    assert [is_repository(folder) for folder in (repository, saved, tmp_path)] == [True, False, False]
    assert [is_saved(folder) for folder in (repository, saved, tmp_path)] == [False, True, False]
    (described,) = describe(CorpusConfig(path=str(repository)))
    assert [file["name"] for file in described["files"]] == ["README.md", "a-0.parquet", "a-1.parquet", "b-0.parquet"]


def offline(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[tuple[str, str | None]]:
    """Stands in for the hub's client, which fails or knows every data set."""
    asked: list[tuple[str, str | None]] = []

    class Client:
        def dataset_info(self, path: str, revision: str | None, timeout: float) -> Any:
            asked.append((path, revision))
            if error:
                raise error
            return SimpleNamespace(sha="c0ffee")

    data_sets._commit.cache_clear()
    constants = SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=Client, constants=constants))
    return asked


def test_a_hub_data_set_out_of_reach_says_what_to_do_at_once(monkeypatch: pytest.MonkeyPatch):
    class Unreachable(Exception):
        pass

    asked = offline(monkeypatch, Unreachable("Name or service not known.\nmore"))
    source = CorpusConfig(path="owner/name", subset="english", revision="abc123")
    began = time.monotonic()
    with pytest.raises(
        BortError, match=r"owner/name.*parquet files of english at revision abc123.*corpus\.path=FOLDER \(Unreachable: Name"
    ):
        resolve(source, "corpus")
    assert time.monotonic() - began < 1.0
    assert asked == [("owner/name", "abc123")]
    several = CorpusConfig(sources=[SourceConfig(name="words", path="owner/words")])
    with pytest.raises(BortError, match=r"corpus\.sources\.0\.path=owner/words.*into FOLDER/words and set corpus\.path=FOLDER"):
        commits_of(several)


def test_the_commit_of_a_branch_is_looked_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = offline(monkeypatch, None)
    (tmp_path / "local").mkdir()
    sources = [SourceConfig(name="far", path="owner/name", revision="main"), SourceConfig(name="local", path="owner/local")]
    assert commits_of(CorpusConfig(path=str(tmp_path), sources=sources)) == ["c0ffee", None]
    assert asked == [("owner/name", "main")]


def test_what_was_downloaded_before_needs_no_hub(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert resolve(CorpusConfig(path="owner/name", revision="abc", streaming=False), "corpus") == "abc"
