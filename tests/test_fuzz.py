"""A sample of what `make fuzz` does with every reader, and every input that a reader once could not answer with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bort.errors import BortError
from tests.fuzz.__main__ import SEEDS, main
from tests.fuzz.engine import Reader, attempt, fuzz, input_of, patience
from tests.fuzz.readers import readers

SAMPLE = 60


@pytest.fixture(scope="module")
def known() -> dict[str, Reader]:
    return readers()


@pytest.mark.parametrize(
    "name",
    ["tables", "tasks", "text", "manifests", "shards", "params", "checkpoints", "journals", "spool", "overrides", "settings"],
)
def test_a_reader_answers_whatever_it_is_given(name: str, known: dict[str, Reader], tmp_path: Path) -> None:
    outcome = fuzz(known[name], SAMPLE, 1, tmp_path / "files")
    assert outcome.failures == []
    assert outcome.read + outcome.refused == outcome.inputs == SAMPLE


def test_every_reader_reads_its_sound_inputs(known: dict[str, Reader], tmp_path: Path) -> None:
    with patience():
        for reader in known.values():
            for variant, bases in reader.variants.items():
                found = [attempt(reader, variant, data, tmp_path / "files") for data in bases]
                # Some settings are refused for what does not stand beside them; every other reader takes its own.
                spoken = reader.name in ("settings", "overrides")
                assert set(found) <= ({None, ""} if spoken else {None}), (reader.name, variant, found)
                assert None in found or reader.name == "settings"


def test_no_input_fails_that_failed_once(known: dict[str, Reader], tmp_path: Path) -> None:
    with patience():
        for path in sorted(SEEDS.glob("*")):
            name, variant, _ = path.name.split("~")
            reader = known[name]
            variant = next(one for one in reader.variants if one.replace("/", "-") == variant)
            assert attempt(reader, variant, path.read_bytes(), tmp_path / "files") in (None, ""), path.name


def _fragile(variant: str, data: bytes, folder: Path) -> object:
    if b"7" in data:
        raise KeyError("seven")
    if not data:
        raise BortError("Something is needed.")
    while b"8" in data:
        pass
    return data


FRAGILE = Reader("fragile", "nothing", {"plain": [b"1234567 and so on", b"12345"]}, _fragile)


def test_failures_are_told_apart_and_made_small(tmp_path: Path) -> None:
    outcome = fuzz(Reader("fragile", "", {"plain": [b"1234567 and so on"]}, _fragile), 20, 0, tmp_path / "files")
    crash = outcome.failures[0]
    assert outcome.crashed > 1
    assert (crash["failure"], crash["input"]) == ("KeyError in tests/test_fuzz.py:_fragile", b"7")


def test_a_hang_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.engine.PATIENCE", 0.05)
    with patience():
        assert str(attempt(FRAGILE, "plain", b"8", tmp_path / "files")).startswith("HangError")
        assert attempt(FRAGILE, "plain", b"", tmp_path / "files") == ""


def test_inputs_are_functions_of_the_seed(known: dict[str, Reader]) -> None:
    for reader in known.values():
        first = [input_of(reader, 3, index) for index in range(20)]
        assert first == [input_of(reader, 3, index) for index in range(20)]
        assert first != [input_of(reader, 4, index) for index in range(20)]


def test_the_command_writes_what_came_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--inputs", "30", "--out", str(tmp_path), "--seed", "5"]
    assert main([*arguments, "--reader", "params"]) == 0
    assert main([*arguments, "--reader", "spool"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["readers"]) == {"params", "spool"}
    assert result["readers"]["params"]["inputs"] == 30
    assert result["readers"]["params"]["seed"] == 5
