from __future__ import annotations

from pathlib import Path

import pytest

from bort.errors import RecordError
from bort.files import read_json, write_json
from bort.record import MANIFEST, RESULT, StageDirectory, bind, differences, refuse_difference


def directory(path: Path, seed: int = 0, corpus: str = "aa") -> StageDirectory:
    return StageDirectory(path / "search", "search", {"seed": seed, "space": {"depth": [1, 2]}}, {"corpus": corpus})


def test_a_stage_is_begun_resumed_and_found_done(tmp_path: Path) -> None:
    first = directory(tmp_path)
    assert not (tmp_path / "search").exists(), "looking at a directory must not write"
    first.begin()
    assert not first.done
    first.add_seconds(1.5)
    again = directory(tmp_path)
    assert not again.done
    again.begin()
    again.add_seconds(2.0)
    again.finish({"winner": "D1-A1-H1-I1"})
    assert again.key == first.key
    done = directory(tmp_path)
    assert done.done
    assert done.seconds == 3.5
    assert done.result()["winner"] == "D1-A1-H1-I1"
    assert done.result()["schema"] == 1


def test_a_mark_without_a_result_is_not_done(tmp_path: Path) -> None:
    stage = directory(tmp_path)
    stage.begin()
    stage.finish({})
    (tmp_path / "search" / RESULT).unlink()
    assert not directory(tmp_path).done


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 1}, "seed: 0 there, 1 here"), ({"corpus": "bb"}, "input corpus: aa there, bb here")]
)
def test_another_configuration_is_refused_with_the_difference(tmp_path: Path, change: dict[str, object], named: str) -> None:
    directory(tmp_path).begin()
    with pytest.raises(RecordError, match=named):
        directory(tmp_path, **change)  # type: ignore[arg-type]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    directory(tmp_path).begin()
    manifest = tmp_path / "search" / MANIFEST
    write_json(manifest, {**read_json(manifest), "schema": 99})
    with pytest.raises(RecordError, match="newer version"):
        directory(tmp_path)


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    directory(tmp_path).begin()
    manifest = tmp_path / "search" / MANIFEST
    whole = manifest.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        manifest.write_bytes(whole[:length])
        with pytest.raises(RecordError, match=r"manifest\.json"):
            directory(tmp_path)


def test_bind_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    mark = bind(tmp_path, "training", {"seed": 1, "sizes": (1, 2), "loss": {"kl": 1.0}})
    assert bind(tmp_path, "training", {"seed": 1, "sizes": [1, 2], "loss": {"kl": 1.0}, "added": None}) != mark
    with pytest.raises(RecordError, match=r"other settings \(loss\.kl: 1\.0 there, 2\.0 here; seed: 1 there, 3 here\)"):
        bind(tmp_path, "training", {"seed": 3, "sizes": (1, 2), "loss": {"kl": 2.0}})


def test_bind_keys_not_asked_for_are_ignored(tmp_path: Path) -> None:
    bind(tmp_path, "training", {"seed": 1, "old": 2})
    bind(tmp_path, "training", {"seed": 1})


def test_refuse_difference_digests_are_compared(tmp_path: Path) -> None:
    refuse_difference(tmp_path, "a corpus", "aa", "aa")
    with pytest.raises(RecordError, match="a corpus of other settings"):
        refuse_difference(tmp_path, "a corpus", "aa", "bb")


def test_differences_many_are_counted() -> None:
    digests = {"teacher": "a" * 64}, {"teacher": "b" * 64}
    assert differences(*digests) == f"teacher: {'a' * 12}… there, {'b' * 12}… here"
    assert differences({}, dict.fromkeys("abcde", 1)).endswith("c: unset there, 1 here and 2 more")
    assert differences({"a": None}, {}) == ""
