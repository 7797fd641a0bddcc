"""Files cut at every byte, torn lines, stale locks, clocks apart: recovered, or refused with a sentence, never wrong."""

from __future__ import annotations

import datetime
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bort.candidate import Evaluation
from bort.checkpoints import CheckpointFolder
from bort.corpus.dataset import Corpus
from bort.curve import Curve, read_curve
from bort.distillation.estimator import Answers
from bort.errors import BortError, RecordError
from bort.files import atomic_path, digest, file_digest, read_json, write_json
from bort.observer import Quiet
from bort.record import StageDirectory
from bort.search.storage.config import JournalStorageConfig
from bort.search.strategies.config import OseConfig
from bort.search.worker import run_search
from bort.teacher.store import Store
from bort.tracking.config import TrackingConfig
from bort.tracking.delivery import Delivery
from bort.tracking.spool import Spool
from tests.faults.training import comparable, problem


class Listener(Quiet):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def cut_everywhere(path: Path, read: Callable[[], Any], accepted: Callable[[Any], bool]) -> tuple[int, int]:
    """Cuts a file at every byte; returns how often it was read as what was accepted, and how often it was refused."""
    whole = path.read_bytes()
    read_well = refused = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            value, sentence = read(), ""
        except BortError as error:
            value, sentence = None, str(error)
        if sentence:
            assert path.name in sentence or path.parent.name in sentence
            refused += 1
        else:
            assert accepted(value), f"{path.name} cut to {length} bytes gives {value}"
            read_well += 1
    path.write_bytes(whole)
    assert accepted(read())
    return read_well, refused


def test_a_checkpoint_cut_anywhere_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, "f" * 64)
    for step in (2, 4):
        folder.save(step, {"weights.a": torch.full((3, 2), float(step)), "optimizer.a.exp_avg": torch.ones(3)}, {"seconds": 1.5})
    newest, listener = folder.path(4), Listener()
    whole = newest.read_bytes()
    for length in range(len(whole)):
        newest.write_bytes(whole[:length])
        found = folder.load(listener)
        assert found is not None
        assert found.step == 2
        assert float(found.tensors["weights.a"][0, 0]) == 2.0
        assert "going on from step 2" in listener.warnings.pop()
    newest.write_bytes(whole)
    assert folder.load(listener).step == 4
    assert not listener.warnings


def test_answers_manifests_and_results_cut_anywhere_are_refused(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "evaluations.json", "owner")
    answers.add(Evaluation(4, 0.5, tokens=10, metrics={"kl": 0.25}))
    known = dict(answers.known)
    # Only the end of the line can be missing without being missed.
    assert cut_everywhere(answers.path, lambda: Answers(answers.path, "owner").known, lambda found: found == known)[0] == 1
    stage = StageDirectory(tmp_path / "stage", "search", {"seed": 1}, {"corpus": "d" * 64})
    stage.begin()
    stage.finish({"winner": {"name": "D1-A1-H1-I1", "w": 0.5}})

    def again() -> Any:
        made = StageDirectory(tmp_path / "stage", "search", {"seed": 1}, {"corpus": "d" * 64})
        return made.done, made.result()["winner"]

    expected = (True, {"name": "D1-A1-H1-I1", "w": 0.5})
    for name in ("manifest.json", "result.json"):
        assert cut_everywhere(tmp_path / "stage" / name, again, lambda found: found == expected)[0] == 1


def test_a_curve_and_a_spool_cut_anywhere_keep_their_whole_lines(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "curve.jsonl", 0)
    for step in range(1, 6):
        curve.add(step, {"loss": 1.0 / step})
    curve.close()
    points = read_curve(curve.path)
    _, refused = cut_everywhere(curve.path, lambda: read_curve(curve.path), lambda found: found == points[: len(found)])
    assert (len(points), refused) == (5, 0)
    with Spool(tmp_path / "spool.jsonl") as spool:
        for number in range(5):
            spool.append({"event": "x", "number": number})

    def numbers() -> list[int]:
        return [event["number"] for _, event in Spool(spool.path).read() if event and event["event"] == "x"]

    assert cut_everywhere(spool.path, numbers, lambda found: found == list(range(len(found))))[1] == 0


def test_a_cursor_cut_anywhere_delivers_all_again_and_nothing_less(tmp_path: Path) -> None:
    spool, config = Spool(tmp_path / "tracking.jsonl"), TrackingConfig(uri="http://127.0.0.1:1")
    spool.append({"event": "x"})
    delivery = Delivery(config, spool, Quiet())
    delivery._remember({"offset": 7, "experiment_id": "1", "runs": {"a": "b"}})
    offsets = (0, 7)
    _, refused = cut_everywhere(
        tmp_path / "tracking.cursor.json", lambda: delivery.state().get("offset", 0), lambda found: found in offsets
    )
    assert refused == 0


def make_corpus(folder: Path) -> None:
    """A corpus of a few blocks, as it lies on disk."""
    folder.mkdir()
    blocks = {"train": 3, "heldout": 2}
    for split, count in blocks.items():
        np.save(folder / f"{split}.npy", np.arange(count * 8, dtype=np.uint16).reshape(count, 8))
    np.save(folder / "words.npy", np.ones(20, dtype=np.uint8))
    record = {
        "schema": 1,
        "blocks": blocks,
        "block_length": 8,
        "vocab_size": 20,
        "special": {"cls": 0},
        "tokenizer": "t",
        "digest": "d",
        "digests": {split: file_digest(folder / f"{split}.npy") for split in blocks},
    }
    write_json(folder / "corpus.json", record)


@pytest.mark.parametrize("name", ["corpus.json", "train.npy", "heldout.npy", "words.npy"])
def test_a_corpus_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    make_corpus(tmp_path / "corpus")

    def read() -> Any:
        corpus = Corpus.open(tmp_path / "corpus")
        return corpus.train[:].sum(), corpus.heldout[:].sum(), corpus.words.sum()

    expected = read()
    read_well, _ = cut_everywhere(tmp_path / "corpus" / name, read, lambda found: found == expected)
    assert read_well == (name == "corpus.json")


@pytest.mark.parametrize("name", ["store.json", "train-0000-000000.hidden.npy"])
def test_soft_targets_cut_anywhere_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "representation"
    folder.mkdir()
    shards = {}
    for split, count in (("heldout", 1), ("train", 2)):
        path = folder / f"{split}-0000-000000.hidden.npy"
        np.save(path, np.arange(count * 12, dtype=np.float16).reshape(count, 4, 3))
        shards[f"{split}-0000-000000"] = {"hidden": file_digest(path)}
    layout = {"arrays": {"hidden": {"shape": [4, 3], "dtype": "float16"}}, "shard_blocks": 8}
    write_json(folder / "store.json", {"identity": {}, "layout": layout, "shards": shards, "digest": digest(shards)})

    def read() -> float:
        return float(Store.open(folder).rows("train", np.arange(2), np.zeros(2, dtype=np.int64))["hidden"].sum())

    read_well, _ = cut_everywhere(folder / name, read, lambda found: found == sum(range(24)))
    assert read_well == (name == "store.json")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("searched")
    return folder, run_search(problem(), OseConfig(), storage=JournalStorageConfig(), directory=folder)


def test_a_journal_cut_anywhere_keeps_its_whole_lines_and_ends_in_the_same_result(
    searched: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, result = searched
    whole = (folder / "study.journal").read_bytes()
    journal, draw = tmp_path / "study.journal", random.Random(7)
    for length in range(1, len(whole), 7):
        journal.write_bytes(whole[:length])
        JournalStorageConfig().open(tmp_path).close()
        assert journal.read_bytes() == whole[: whole.rfind(b"\n", 0, length) + 1]
    shutil.copytree(folder / "candidates", tmp_path / "candidates")
    for length in (0, *draw.sample(range(1, len(whole)), 12)):
        journal.write_bytes(whole[:length])
        again = run_search(problem(), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)
        assert comparable(again) == comparable(result)


def test_half_a_line_in_the_journal_of_the_fine_tuning_is_cut_off(tmp_path: Path) -> None:
    from bort.finetuning.config import FinetuningConfig
    from bort.finetuning.search import search_theta

    ran: list[int] = []

    def train(trial: Any) -> dict[str, Any]:
        ran.append(trial.number)
        # Another worker dies while it writes.
        with (tmp_path / "study.journal").open("ab") as file:
            file.write(b'{"op_code": 8, "trial_id": 0, "user_')
        return {"steering": {"accuracy": trial.config.learning_rate}, "pruned": False, "epochs": 1, "best_epoch": 1, "seconds": 0.0,
                "processor_seconds": 0.0}  # fmt: skip

    config = FinetuningConfig(search={"learning_rate": {"low": 1e-4, "high": 1e-2}}, trials=3, learning_rate=1e-3)
    settings = {"seed": 1, "storage": tmp_path / "study.journal", "locks": tmp_path / "locks", "name": "s", "primary": "accuracy"}
    found = search_theta(config, train, **settings)
    assert search_theta(config, train, **settings) == found
    assert ran == [0, 1, 2]


def test_locks_of_the_dead_hold_nobody_up(tmp_path: Path) -> None:
    claims = tmp_path / "study.journal.claims" / "search"
    claims.mkdir(parents=True)
    for number in range(4):
        (claims / str(number)).write_text("left by a worker that is gone")
    for name in ("study.journal.lock-study", ".lock"):
        (tmp_path / name).write_text("1234")
    result = run_search(problem(), OseConfig(stride=4), storage=JournalStorageConfig(), directory=tmp_path)
    assert {candidate["state"] for candidate in result["candidates"]} == {"complete"}


def test_workers_whose_clocks_are_apart_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna.storages.journal._storage

    expected = run_search(problem(), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path / "expected")
    days = [400.0, -400.0]

    class Wrong(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime.now(tz) + datetime.timedelta(days=days[0])

    class Stopped(Quiet):
        """Ends a worker in the middle, which leaves its candidate to one of another time."""

        def __init__(self) -> None:
            self.told = 0

        def progress(self, label: str, done: float, total: float, note: str = "") -> None:
            self.told += 1
            if self.told == 4:
                raise KeyboardInterrupt

    right = time.time
    monkeypatch.setattr(optuna.storages.journal._storage, "datetime", Wrong)
    monkeypatch.setattr(time, "time", lambda: right() + 86400 * days[0])
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run_search(problem(), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path, observer=Stopped())
        days.reverse()
    result = run_search(problem(), OseConfig(), storage=JournalStorageConfig(), directory=tmp_path)
    assert comparable(result) == comparable(expected)


def test_a_directory_is_there_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from bort import files

    target, missed, stop = tmp_path / "student", [], threading.Event()

    def replace(number: int) -> None:
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "weights").write_text(str(number))

    def watch() -> None:
        while not stop.is_set():
            if not target.is_dir():
                missed.append(1)

    replace(0)
    if not files._exchange(target, target):
        pytest.skip("this system cannot exchange two directories in one step")
    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(1, 200):
        replace(number)
    stop.set()
    watcher.join()
    assert not missed
    assert (target / "weights").read_text() == "199"
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    # Elsewhere the old one steps aside first.
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    replace(200)
    assert (target / "weights").read_text() == "200"
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_an_unreadable_record_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": 1')
    with pytest.raises(RecordError, match=r"a\.json is not valid JSON.*run the stage again"):
        read_json(tmp_path / "a.json")
    assert json.loads('{"a": 1}') == {"a": 1}
