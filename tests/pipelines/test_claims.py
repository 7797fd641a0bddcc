"""`record=FILE` keeps a stage's figures; `bort claims` puts them beside what the paper claims."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import claims
from pipelines.app.main import entry

SPACE = ["error=proxy", "search_space.depth=[1,2]", "search_space.heads=[2]", "search_space.hidden=[8,16]"]


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `bort search` where nothing is trained; returns status and standard error."""

    def run(*overrides: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bort search", *SPACE, "tracking=off", "outputs=out", *overrides])
        monkeypatch.chdir(tmp_path)
        try:
            entry("search")()
        except SystemExit as ended:
            return int(ended.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def told(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["bort claims", *arguments])
    claims.main()
    return capsys.readouterr().out


def test_a_record_is_kept_of_a_search_new_or_done(
    search: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "again"):
        status, shown = search(f"record=records/{name}.json")
        assert status == 0
        assert f"recorded in records/{name}.json" in shown
    first, again = (json.loads((tmp_path / "records" / f"{name}.json").read_text()) for name in ("first", "again"))
    assert first == again, "the name of the record makes no other run"
    assert shlex.split(first["command"]) == ["bort", "search", *SPACE, "tracking=off", "outputs=out"]
    assert first["stage"] == "search"
    assert first["machine"]["processors"] >= 1
    assert first["figures"]["winner"]["name"].startswith("D")
    assert len(list((tmp_path / "out").rglob("search/result.json"))) == 1
    page = told([str(tmp_path / "records"), "--markdown"], monkeypatch, capsys)
    assert page.count("\n") == page.count("|\n") > 10
    page_file = tmp_path / "page.md"
    page_file.write_text("<!-- ledger: written by `bort claims` -->\n<!-- end of the ledger -->\n")
    told([str(tmp_path / "records"), "--into", str(page_file)], monkeypatch, capsys)
    assert page in page_file.read_text()


def test_the_ledger_as_a_table_needs_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = told([], monkeypatch, capsys)
    assert "not measured yet" in shown
    assert "bort benchmark agora" in shown


@pytest.mark.parametrize(("value", "sentence"), [("record.txt", "the name of a .json file"), (".", "a .json file")])
def test_a_record_that_cannot_be_written_is_refused_first(search: Any, tmp_path: Path, value: str, sentence: str) -> None:
    status, error = search(f"record={value}")
    assert status == 1
    assert sentence in error
    assert not list(tmp_path.rglob("result.json"))
