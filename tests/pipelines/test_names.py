"""A setting that names something is a name: none places a file outside its folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipelines.app.main import entry

SEARCH = [
    "error=proxy",
    "search_space.depth=[1,2]",
    "search_space.heads=[2]",
    "search_space.hidden=[8,16]",
    "search_space.intermediate=[16]",
    "search_space.maximum_point=6-4-64-256",
    "tracking=off",
]


@pytest.mark.parametrize(
    ("stage", "overrides", "told"),
    [
        ("search", ["name=../../escaped"], "name=../../escaped"),
        ("search", ["name={}/escaped"], "name={}/escaped"),
        ("search", ["name=.."], "name=.."),
        ("search", ["-m", "seed=0,1", "name=../../escaped"], "name=../../escaped"),
        ("search", ["-m", "name=fine,../../escaped"], "name=../../escaped"),
        ("search", ["storage.study=../../../../../escaped"], "storage.study=../../../../../escaped"),
        ("search", ["storage=sqlite", "storage.study={}/escaped"], "storage.study={}/escaped"),
        ("search", ["corpus.sources=[{{name:../../escaped,path:x}}]"], "corpus.sources.0.name=../../escaped"),
        ("finetune", ["finetune.models=[../../escaped]"], "finetune.models=../../escaped"),
    ],
)
def test_name_with_a_path_is_refused_and_writes_nothing(
    stage: str,
    overrides: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "a" / "b" / "c"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    chosen = SEARCH if stage == "search" else ["tracking=off"]
    monkeypatch.setattr(sys, "argv", [f"bort {stage}", *chosen, *(word.format(tmp_path) for word in overrides)])
    with pytest.raises(SystemExit) as ended:
        entry(stage)()
    errors = capfd.readouterr().err
    assert ended.value.code == 1
    assert told.format(tmp_path) in errors
    assert "Traceback" not in errors
    left = [path for path in tmp_path.rglob("*") if path not in (here, *here.parents)]
    assert not [path for path in left if not path.is_relative_to(here / "outputs")]
    # A job of the sweep with a good name may have left its results.
    if "-m" not in overrides:
        assert not [path for path in left if path.is_file()]
