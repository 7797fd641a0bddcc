from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bort.errors import RecordError
from bort.files import atomic_path, digest, file_digest, read_json, write_json, write_text


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text(f"half, {1 / 0}")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("first", "second"):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_json_holds_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [math.inf, 1.5], 3: (1, 2)})
    assert read_json(tmp_path / "x.json") == {"a": None, "b": [None, 1.5], "3": [1, 2]}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", None])
def test_an_unreadable_json_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError, match=r"manifest\.json"):
        read_json(path)


def test_a_digest_does_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": [2.5, "ü"]}) == digest(json.loads('{"b": [2.5, "ü"], "a": 1}'))
    assert digest({"a": 1}) != digest({"a": 2})
    write_text(tmp_path / "x", "abc")
    assert file_digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
