"""Tables of several searches put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bort.architecture import Architecture
from bort.benchmarks.collect import collect
from bort.benchmarks.config import CollectConfig
from bort.errors import ConfigurationError
from bort.files import write_json
from bort.search.table import TABLE, read_table, write_table
from bort.settings import check_settings

SHAPES = [Architecture(1, 2, 32, 64), Architecture(2, 2, 32, 64)]
POINT = Architecture(4, 4, 64, 128)
ROWS = 1064


def search(folder: Path, seed: int, shapes: list[Architecture], *, state: str = "done", **settings: Any) -> Path:
    """Writes what a finished search leaves behind."""
    space = {"depth": sorted({shape.depth for shape in shapes}), "maximum_point": "teacher"}
    given = {
        "seed": seed,
        "search_space": space,
        "strategy": {"name": "ose"},
        "error": {"name": "distill", "steps": 20},
        **settings,
    }
    manifest = {"stage": "search", "state": state, "settings": given, "inputs": {"teacher": "abc"}, "digest": f"d{seed}"}
    write_json(folder / "manifest.json", manifest)
    point = {**vars(POINT), "p": POINT.parameters(ROWS, 0)}
    write_json(folder / "result.json", {"maximum_point": point, "trained_steps": 40, "tokens": 1, "processor_seconds": 2.0})
    rows = [{**vars(shape), "steps": steps, "error": 1.0 / steps, "seed": seed} for shape in shapes for steps in (10, 20)]
    write_table(folder / TABLE, rows)
    return folder


def test_searches_with_other_seeds_and_spaces_make_one_table(tmp_path: Path) -> None:
    found = collect([search(tmp_path / "b", 1, SHAPES[:1]), search(tmp_path / "a" / "search", 0, SHAPES[::-1])])
    assert found.seeds == {SHAPES[0]: [0, 1], SHAPES[1]: [0]}
    assert found.shapes == SHAPES
    assert (found.maximum_point, found.embedding_rows) == (POINT, ROWS)
    assert [(row["depth"], row["seed"], row["steps"]) for row in found.rows[:3]] == [
        ("1", "0", "10"),
        ("1", "0", "20"),
        ("1", "1", "10"),
    ]
    assert [(one["folder"], one["rows"], one["digest"]) for one in found.searches] == [("b", 2, "d1"), ("a", 4, "d0")]
    write_table(tmp_path / "t.csv", found.with_latency({SHAPES[0]: 1.25, SHAPES[1]: 2.5}))
    table = read_table(str(tmp_path / "t.csv"), "latency_ms")
    assert table.curves[SHAPES[1], 0] == {10: 2.5, 20: 2.5}


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ({"seed": 0, "shapes": SHAPES}, "with seed 0 is in another of them already"),
        ({"seed": 1, "shapes": SHAPES, "error": {"name": "distill", "steps": 40}}, "error.steps: 20 before, 40 here"),
        ({"seed": 1, "shapes": SHAPES, "state": "running"}, "the folder of a finished search that trained"),
    ],
)
def test_searches_that_do_not_fit_together_are_refused(tmp_path: Path, second: dict[str, Any], sentence: str) -> None:
    folders = [search(tmp_path / "a", 0, SHAPES), search(tmp_path / "b", **second)]
    with pytest.raises(ConfigurationError, match=rf"collect\.searches=.*{sentence}"):
        collect(folders)


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"collect\.searches=.*the folder of a finished search"):
        collect([tmp_path])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"searches": []}, "searches"),
        ({"searches": ["a", "a"]}, "searches"),
        ({"table": "x.txt"}, "table"),
        ({"repeats": 1}, "repeats"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"collect\.{key}="):
        check_settings(CollectConfig(**{"searches": ["a"], **change}), "collect")
