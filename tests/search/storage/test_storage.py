"""Studies that outlive their workers, and storages that cannot be used."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bort.errors import BortError, ConfigurationError
from bort.redaction import redact
from bort.search.config import SearchConfig
from bort.search.storage.config import JournalStorageConfig, PostgresStorageConfig, StorageConfig
from bort.search.strategies.config import Nsga2Config, OseConfig, RandomConfig
from bort.search.worker import run_search
from tests.search.synthetic_tables import SMALL, TINY, table_problem


def loaded(path: Path) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    return optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))))


@pytest.mark.parametrize(
    ("change", "seed", "strategy", "named"),
    [
        ({"fingerprint": {"teacher": "other", "corpus": "c"}}, 1, OseConfig(), "teacher: t there, other here"),
        ({"fingerprint": {"teacher": "t", "corpus": "new"}}, 1, OseConfig(), "corpus: c there, new here"),
        ({}, 2, OseConfig(), "seed: 1 there, 2 here"),
        ({}, 1, OseConfig(stride=2), r"strategy\.stride: 1 there, 2 here"),
        ({}, 1, RandomConfig(), "strategy.name: ose there, random here"),
        ({"search": SearchConfig(max_parameters=10**9)}, 1, OseConfig(), "search.max_parameters: None there"),
        ({"parameters": lambda shape: shape.parameters(2000, 64)}, 1, OseConfig(), "parameters: "),
    ],
)
def test_a_study_of_something_else_is_refused(tmp_path: Path, change: dict[str, Any], seed: int, strategy: Any, named: str) -> None:
    problem = table_problem(tmp_path, TINY, fingerprint="")
    problem = replace(problem, fingerprint={"teacher": "t", "corpus": "c"})
    run_search(problem, OseConfig(), seed=1, storage=JournalStorageConfig(), directory=tmp_path)
    with pytest.raises(BortError, match=f"begun with other settings.*{named}"):
        run_search(replace(problem, **change), strategy, seed=seed, storage=JournalStorageConfig(), directory=tmp_path)


def test_a_study_of_another_space_or_table_is_refused(tmp_path: Path) -> None:
    run_search(table_problem(tmp_path, TINY), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)
    with pytest.raises(BortError, match=r"search_space\.depth: \[1, 2, 3\] there, \[1, 2, 3, 4\] here"):
        run_search(table_problem(tmp_path, SMALL), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)
    with pytest.raises(BortError, match="error: table"):
        run_search(table_problem(tmp_path, TINY, seed=9), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)


def test_several_studies_share_a_journal(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    path = str(tmp_path / "shared.journal")
    results = [
        run_search(problem, OseConfig(), seed=seed, storage=JournalStorageConfig(path=path, study=f"s{seed}"), directory=tmp_path)
        for seed in (1, 2)
    ]
    assert results[0]["winner"] == results[1]["winner"]


def test_the_journal_is_optunas_own(tmp_path: Path) -> None:
    result = run_search(table_problem(tmp_path, TINY), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)
    study = loaded(tmp_path / "study.journal")
    assert study.best_value == result["winner"]["w"]
    assert study.best_params == {name: result["winner"][name] for name in TINY}


@pytest.mark.parametrize(
    ("strategy", "measured", "names"),
    [
        (OseConfig(), False, ["W"]),
        (Nsga2Config(trials=4, population=2), False, ["parameters", "operations", "error"]),
        (Nsga2Config(trials=4, population=2), True, ["parameters", "latency in ms", "error"]),
    ],
)
def test_objectives_are_named_for_the_dashboard(tmp_path: Path, strategy: Any, measured: bool, names: list[str]) -> None:
    problem = replace(table_problem(tmp_path, TINY), latency_name="cpu" if measured else "operations")
    run_search(problem, strategy, storage=JournalStorageConfig(), directory=tmp_path)
    study = loaded(tmp_path / "study.journal")
    assert study.metric_names == names
    assert len(study.directions) == len(names)


def test_a_study_whose_objectives_have_no_names_yet_goes_on_and_gets_them_once(tmp_path: Path) -> None:
    """One of an earlier version, or of a worker that died before it named them."""
    problem = table_problem(tmp_path, TINY)
    result = run_search(problem, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)
    journal = tmp_path / "study.journal"
    named = journal.read_bytes().splitlines(keepends=True)
    nameless = [line for line in named if b"study:metric_names" not in line]
    assert len(nameless) == len(named) - 1
    identity = loaded(journal).user_attrs
    for whole in (nameless, nameless[: len(nameless) // 2]):
        journal.write_bytes(b"".join(whole))
        assert loaded(journal).metric_names is None
        for _ in range(2):
            assert run_search(problem, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path) == result
        assert journal.read_bytes().count(b"study:metric_names") == 1
        assert loaded(journal).metric_names == ["W"]
        assert loaded(journal).user_attrs == identity


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    problem = table_problem(tmp_path, TINY)
    result = run_search(problem, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b"x" * 70000)
    assert run_search(problem, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path) == result
    assert journal.read_bytes().startswith(whole)
    # Cut anywhere, what is whole is kept and the rest is found again.
    for share in (0.9, 0.5, 0.2, 0.05):
        journal.write_bytes(whole[: int(len(whole) * share)])
        assert run_search(problem, OseConfig(), storage=JournalStorageConfig(), directory=tmp_path) == result


def test_claims_exclude_each_other_and_end_with_their_owner(tmp_path: Path) -> None:
    first, second = (JournalStorageConfig().open(tmp_path) for _ in range(2))
    with first.exclusive():
        assert first.claim(3)
        assert first.claim(3)
    with second.exclusive():
        assert not second.claim(3)
        assert second.claim(4)
    first.close()
    with second.exclusive():
        assert second.claim(3)
    second.close()
    assert not list(tmp_path.glob("study.journal.claims/**/*"))


@pytest.mark.parametrize("text", [b"not a journal\n", b'{"op_code": 0}\n', b"\x00\xff\n"])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "study.journal").write_bytes(text)
    with pytest.raises(ConfigurationError, match=r"storage\.path=.*an intact Optuna journal"):
        run_search(table_problem(tmp_path, TINY), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = JournalStorageConfig(path=str(tmp_path / "file" / "study.journal"))
    with pytest.raises(ConfigurationError, match=r"storage\.path=.*can be written"):
        run_search(table_problem(tmp_path, TINY), OseConfig(), storage=storage, directory=tmp_path)


def test_a_storage_is_looked_at_before_anything_costly_is_begun(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "study.journal", tmp_path):
        with pytest.raises(ConfigurationError, match=r"storage\.path=.*can be written"):
            JournalStorageConfig(path=str(place)).check_usable()
    for place in (tmp_path / "file", tmp_path / "new" / "study.journal"):
        JournalStorageConfig(path=str(place)).check_usable()
    JournalStorageConfig().check_usable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigurationError, match=r"storage\.url=postgresql://me:\*\*\*@127\.0\.0\.1:1/none is invalid"):
        PostgresStorageConfig(url="postgresql://me:topsecret@127.0.0.1:1/none").check_usable()


def test_unknown_storages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"storage=cloud .*journal, sqlite, postgres"):
        StorageConfig(name="cloud").open(tmp_path)
    with pytest.raises(ConfigurationError, match=r"storage\.url=mysql://me:\*\*\*@host/x .*postgresql://"):
        PostgresStorageConfig(url="mysql://me:secret@host/x").open(tmp_path)


def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    storage = PostgresStorageConfig(url="postgresql://me:topsecret@127.0.0.1:1/none")
    with pytest.raises(ConfigurationError, match=r"storage\.url=postgresql://me:\*\*\*@127\.0\.0\.1:1/none") as caught:
        run_search(table_problem(tmp_path, TINY), OseConfig(), storage=storage, directory=tmp_path)
    assert "topsecret" not in str(caught.value)


def test_passwords_are_struck_out() -> None:
    text = redact("postgresql://me:s3cret@host/db and host=x password=other user=me")
    assert not re.search("s3cret|other", text)
    assert "me:***@host" in text
