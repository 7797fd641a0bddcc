"""The disk is full at any of a stage's writes: one sentence, and the same command ends in the same bytes once there is room."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from bort.corpus import shards as parts
from bort.corpus.build import build_corpus
from bort.corpus.config import CorpusConfig
from bort.distillation.config import BudgetConfig
from bort.distillation.distill import distill
from bort.distillation.terms import LossConfig
from bort.errors import BortError
from bort.files import disk_full
from bort.observer import Quiet
from bort.search.storage.config import JournalStorageConfig, SqliteStorageConfig
from bort.search.strategies.config import OseConfig
from bort.search.worker import run_search
from bort.teacher.build import build_targets
from bort.teacher.config import TargetConfig
from bort.tracking.spool import Spool
from pipelines.app.messages import sentence
from tests.distillation.conftest import World, make_world
from tests.faults.small_disk import SmallDisk
from tests.faults.training import comparable, problem

#: Writes of a stage at which the disk is full in turn; drawn where there are more.
MOMENTS = 12
#: How much of what a stage leaves fits on the disk that is too small for it.
SHARES = (0.2, 0.8)


@contextlib.contextmanager
def full_at(moment: int) -> Iterator[list[int]]:
    """Lets the write of that number fail when it is forced to the disk, as the last moment at which it may; counts them."""
    real, seen = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        seen[0] += 1
        if seen[0] == moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    os.fsync = fsync
    try:
        yield seen
    finally:
        os.fsync = real


def check(work: Callable[[Path], Any], folder: Path) -> int:
    """Fills the disk at each moment of a stage, goes on with room, and compares what comes out; returns how many there were."""
    with full_at(0) as seen:
        expected = work(folder / "whole")
    moments = range(1, seen[0] + 1)
    chosen = list(moments) if len(moments) <= MOMENTS else random.Random(3).sample(moments, MOMENTS)
    for moment in chosen:
        place = folder / f"full-{moment}"
        with full_at(moment), pytest.raises((BortError, OSError)) as caught:
            work(place)
        assert isinstance(caught.value, BortError) or disk_full(caught.value)
        told = sentence(caught.value)
        assert "full" in told or "No space left" in told
        assert work(place) == expected, f"write {moment} of {len(moments)}"
    return len(chosen)


def is_whole(path: Path, other: Path) -> bool:
    """Returns whether a file was written to its end, given one like it that was; times in it have more digits or fewer."""
    if path.suffix != ".safetensors":
        return path.read_bytes()[-8:] == other.read_bytes()[-8:]
    # One that is cut off is refused: its header tells where the last tensor ends.
    with safe_open(path, "np") as file, safe_open(other, "np") as whole:
        return set(file.keys()) == set(whole.keys())


def check_small(work: Callable[[Path], Any], folder: Path, disk: SmallDisk) -> None:
    """Runs a stage where some of what it writes fits, then gives room; what comes out is compared, and what lay there before."""
    expected = work(folder / "whole")
    files = {path.relative_to(folder / "whole"): path for path in (folder / "whole").rglob("*") if path.is_file()}
    size = sum(-(-path.stat().st_size // 4096) * 4096 for path in files.values())
    for share in SHARES:
        place = disk.path / f"{share}"
        # A database that was given up is open as long as its error is known, and holds what was removed.
        gc.collect()
        disk.hold(disk.used() + int(size * share))
        with pytest.raises((BortError, OSError)) as caught:
            work(place)
        assert isinstance(caught.value, BortError) or disk_full(caught.value), repr(caught.value)
        assert any(words in sentence(caught.value) for words in ("full", "No space left", "make room")), sentence(caught.value)
        for name, path in files.items():
            # What is added to line by line may end in a part of a line; all else is there as a whole or not at all.
            if (place / name).exists() and name.suffix in (".safetensors", ".onnx", ".npy", ".png", ".svg", ".html"):
                assert is_whole(place / name, path), f"half of {name}"
            elif (place / name).exists() and name.suffix == ".json":
                json.loads((place / name).read_bytes())
        del caught
        disk.hold(100 * size)
        assert work(place) == expected, f"{share:.0%} of the room"
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def corpus(tiny_text_directory: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    monkeypatch.setattr(parts, "PART_CHARACTERS", 6000)

    def work(folder: Path) -> Any:
        record = build_corpus(CorpusConfig(path=str(tiny_text_directory), block_length=32, heldout=0.1), tiny_tokenizer, folder)
        return record["digest"], (folder / "train.npy").read_bytes()

    return work


@pytest.fixture
def targets(world: World) -> Callable[[Path], Any]:
    def work(folder: Path) -> Any:
        config = TargetConfig("logits", epochs=2, dtype="float32")
        return build_targets(world.teacher, world.corpus, world.masking, config, folder)["digest"]

    return work


@pytest.fixture
def search() -> Callable[[Path], Any]:
    def work(folder: Path) -> Any:
        found = run_search(problem(), OseConfig(stride=4), storage=JournalStorageConfig(), directory=folder)
        return comparable(found)

    return work


@pytest.fixture
def search_in_sqlite() -> Callable[[Path], Any]:
    def work(folder: Path) -> Any:
        return comparable(run_search(problem(), OseConfig(stride=4), storage=SqliteStorageConfig(), directory=folder))

    return work


@pytest.fixture
def distillation(world: World) -> Callable[[Path], Any]:
    from bort.architecture import Architecture

    def work(folder: Path) -> Any:
        arguments = world.arguments(LossConfig(hidden=1.0, relations=1.0, relation_heads=2))
        result = distill(
            Architecture(1, 2, 8, 12), **arguments, budget=BudgetConfig(6, checkpoint_every=2), directory=folder, observer=Quiet()
        )
        curve = [{key: value for key, value in point.items() if "second" not in key} for point in result["curve"]]
        return result["heldout"], curve, (folder / "student" / "model.safetensors").read_bytes()

    return work


@pytest.fixture
def finetuning(reader: Path) -> Callable[[Path], Any]:
    from bort.finetuning.config import FinetuningConfig
    from bort.finetuning.runs import finetune
    from bort.finetuning.setup import FinetuningSetup
    from bort.tasks.task import Example, Task

    made = [Example(f"f:{number}", (f"the film number {number}",), number % 2) for number in range(24)]
    task = Task("toy", "classification", ["no", "yes"], ["accuracy"], made[:12], made[12:16], made[16:], max_length=16)
    config = FinetuningConfig(epochs=1, seeds=[0, 1], batch_size=8, resamples=20)

    def work(folder: Path) -> Any:
        result = finetune(FinetuningSetup(reader, task, config), folder)
        kept = [(folder / "model" / "model.safetensors").read_bytes(), (folder / "predictions.jsonl").read_bytes()]
        return [
            {"steering": one["steering"], "heldout": one["heldout"], "curve": _timeless(one["curve"])} for one in result["seeds"]
        ], kept

    return work


def _timeless(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in point.items() if "second" not in key} for point in curve]


@pytest.fixture
def export(reader: Path) -> Callable[[Path], Any]:
    pytest.importorskip("onnxruntime", reason="the export extra is not installed: pip install 'bort[export]'")
    pytest.importorskip("onnxscript", reason="the export extra is not installed: pip install 'bort[export]'")
    from bort.export.config import ExportConfig
    from bort.export.models import export_model

    def work(folder: Path) -> Any:
        export_model(reader, folder, config=ExportConfig(checks=2, int8=True, optimised=True))
        return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    return work


@pytest.fixture
def report() -> Callable[[Path], Any]:
    from bort.report.page import build_report
    from tests.report.example import example_result

    def work(folder: Path) -> Any:
        build_report(example_result(), folder)
        return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    return work


STAGES = {"corpus": 8, "targets": 8, "search": MOMENTS, "distillation": 8, "finetuning": 8}


@pytest.mark.parametrize("stage", STAGES)
def test_at_a_forced_write(tmp_path: Path, request: pytest.FixtureRequest, stage: str) -> None:
    assert check(request.getfixturevalue(stage), tmp_path) >= STAGES[stage]


@pytest.mark.parametrize("stage", [*STAGES, "search_in_sqlite", "export", "report"])
def test_on_a_small_disk(tmp_path: Path, request: pytest.FixtureRequest, small_disk: SmallDisk, stage: str) -> None:
    check_small(request.getfixturevalue(stage), tmp_path, small_disk)


def test_a_journal_that_does_not_fit_is_not_written_at_all(tmp_path: Path) -> None:
    """What the disk took of it must not be written a second time."""

    def work(folder: Path) -> int:
        run_search(problem(), OseConfig(stride=4), storage=JournalStorageConfig(), directory=folder)
        return (folder / "study.journal").read_bytes().count(b"\n")

    lines, draw, failures = work(tmp_path / "whole"), random.Random(5), 0
    for _ in range(10):
        with full_at(draw.randint(2, 8)), contextlib.suppress(BortError, OSError):
            work(tmp_path)
            break
        failures += 1
    assert failures > 3
    assert work(tmp_path) == lines


def test_an_event_that_does_not_fit_leaves_no_half_line(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    spool.append({"event": "x", "number": 0})

    class Filling:
        """Takes some bytes, as a disk does that becomes full, then none."""

        def __init__(self, file: Any) -> None:
            self._file, self._calls = file, 0

        def write(self, data: bytes) -> int:
            self._calls += 1
            if self._calls > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self._file.write(data[:10])

        def fileno(self) -> int:
            return self._file.fileno()

    real = spool._file
    spool._file = Filling(real)
    with pytest.raises(OSError, match="No space left"):
        spool.append({"event": "x", "number": 1})
    spool._file = real
    spool.append({"event": "x", "number": 2})
    assert [event["number"] for _, event in spool.read() if event and event["event"] == "x"] == [0, 2]
