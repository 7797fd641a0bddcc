"""What stages, trainings and trackers leave on the disk, and MXNet's weights: sound files, and the calls that read them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bort.errors import BortError
from tests.fuzz.sound import as_json, as_lines, write

# --- what stages leave ------------------------------------------------------------------------------------------------------


def manifests() -> dict[str, list[bytes]]:
    corpus = {
        "schema": 1,
        "digest": "d",
        "block_length": 4,
        "vocab_size": 9,
        "tokenizer": "t",
        "special": {"cls": 1, "sep": 2},
        "blocks": {"train": 3, "heldout": 1},
        "digests": {"train": "a", "heldout": "b"},
    }
    layout = {"arrays": {"hidden": {"shape": [2], "dtype": "float32"}}, "shard_blocks": 2}
    store = {"schema": 2, "digest": "d", "layout": layout, "shards": {"train-0000-000000": {"hidden": "x"}}}
    stage = {
        "schema": 1,
        "stage": "search",
        "settings": {"seed": 1, "strategy": {"name": "ose"}},
        "inputs": {"corpus": "c"},
        "state": "done",
        "seconds": 1.5,
        "started": 1.0,
        "digest": _stage_digest(),
    }
    return {
        "corpus": [as_json(corpus)],
        "targets": [as_json(store)],
        "stage": [as_json(stage)],
        "result": [as_json({"schema": 1, "stage": "search"})],
    }


def _stage_digest() -> str:
    from bort.files import digest

    return digest({"stage": "search", **_STAGE})


_STAGE: dict[str, Any] = {"settings": {"seed": 1, "strategy": {"name": "ose"}}, "inputs": {"corpus": "c"}}


def _array(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def read_manifest(variant: str, data: bytes, folder: Path) -> object:
    from bort.corpus.dataset import Corpus
    from bort.record import StageDirectory, holds
    from bort.teacher.store import Store

    if variant == "corpus":
        write(folder, "corpus.json", data)
        write(folder, "train.npy", _array(np.ones((3, 4), np.uint16)))
        write(folder, "heldout.npy", _array(np.ones((1, 4), np.uint16)))
        return Corpus.open(folder).train[np.array([0])]
    if variant == "targets":
        write(folder, "store.json", data)
        write(folder, "train-0000-000000.hidden.npy", _array(np.ones((2, 2), np.float32)))
        return Store.open(folder).rows("train", np.array([0]), np.array([0]))
    for name, content in zip(("manifest.json", "result.json"), (data, b"{}"), strict=True):
        write(folder, name, manifests()["stage"][0] if variant == "result" and name == "manifest.json" else content)
    if variant == "result":
        write(folder, "result.json", data)
    holds(folder, "search", **_STAGE)
    stage = StageDirectory(folder, "search", **_STAGE)
    stage.begin()
    return stage.key, stage.seconds, stage.done and stage.result()


# --- blocks of tokens and shards --------------------------------------------------------------------------------------------


def shards() -> dict[str, list[bytes]]:
    from safetensors.numpy import save

    index = {
        "lengths": np.array([2, 1]),
        "keys": np.array([7, 8], np.uint64),
        "sources": np.zeros(2, np.int32),
        "ends": np.array([6, 0]),
        "seen": np.array([2]),
        "counts": np.zeros(11, np.int64),
        "position": np.frombuffer(b'{"source": 0, "read": 2, "state": null}', np.uint8),
    }
    return {
        "blocks": [_array(np.arange(12, dtype=np.uint16).reshape(3, 4)), _array(np.ones((3, 4), np.int32))],
        "words": [_array(np.zeros(9, np.uint8))],
        "targets": [_array(np.ones((2, 2), np.float32))],
        "parts": [save(index)],
        "tokens": [np.arange(3, dtype=np.uint16).tobytes()],
    }


def read_shard(variant: str, data: bytes, folder: Path) -> object:
    from bort.corpus.dataset import Corpus
    from bort.corpus.shards import Parts
    from bort.teacher.store import Store

    if variant in ("parts", "tokens"):
        sound = shards()
        for name, file in (("parts", "000000.safetensors"), ("tokens", "tokens.bin")):
            write(folder, file, data if name == variant else sound[name][0])
        write(folder, "done.json", b'{"parts": 1}')
        parts = Parts(folder, np.dtype(np.uint16))
        return parts.complete, parts.count_token(1), parts.position
    if variant == "targets":
        write(folder, "store.json", manifests()["targets"][0])
        write(folder, "train-0000-000000.hidden.npy", data)
        return Store.open(folder).rows("train", np.array([1]), np.array([0]))
    write(folder, "corpus.json", manifests()["corpus"][0])
    write(folder, "train.npy", data if variant == "blocks" else shards()["blocks"][0])
    write(folder, "heldout.npy", _array(np.ones((1, 4), np.uint16)))
    write(folder, "words.npy", data if variant == "words" else shards()["words"][0])
    corpus = Corpus.open(folder)
    return corpus.train[np.array([2])], corpus.words


# --- weights ----------------------------------------------------------------------------------------------------------------


def params() -> dict[str, list[bytes]]:
    def array(version: int, shape: tuple[int, ...]) -> bytes:
        storage = struct.pack("<i", 0) if version != 0xF993FAC8 else b""
        head = (
            struct.pack("<I", version)
            + storage
            + struct.pack(f"<I{len(shape)}q", len(shape), *shape)
            + struct.pack("<iii", 1, 0, 0)
        )
        return head + np.ones(shape, "<f4").tobytes()

    names = b"".join(struct.pack("<Q", len(name)) + name for name in (b"arg:a", b"aux:b"))
    made = [
        struct.pack("<QQQ", 0x112, 0, 2) + array(version, (2, 3)) + array(version, (1,)) + struct.pack("<Q", 2) + names
        for version in (0xF993FAC8, 0xF993FAC9, 0xF993FACA)
    ]
    return {"params": made}


def read_params(variant: str, data: bytes, folder: Path) -> object:
    from bort.export.params import read_params

    return read_params(write(folder, "a.params", data))


def checkpoints() -> dict[str, list[bytes]]:
    import tempfile

    import torch

    from bort.checkpoints import CheckpointFolder

    with tempfile.TemporaryDirectory() as place:
        CheckpointFolder(Path(place), "f").save(3, {"weights.a": torch.ones(2, 3), "optimizer.a.step": torch.ones(())}, {"seed": 1})
        sound = (Path(place) / "step-000000003.safetensors").read_bytes()
    return {"checkpoint": [sound], "header": [sound]}


def read_checkpoint(variant: str, data: bytes, folder: Path) -> object:
    from bort.checkpoints import CheckpointFolder
    from bort.measure.sizes import _tensor_sizes
    from bort.observer import Quiet

    if variant == "header":
        return _tensor_sizes(write(folder, "model.safetensors", data))
    write(folder, "step-000000003.safetensors", data)
    found = CheckpointFolder(folder, "f").load(Quiet())
    if found is None:
        raise BortError("The checkpoint is damaged, which was said; training starts from the beginning.")
    return found


# --- journals, curves and the spool -----------------------------------------------------------------------------------------


def journals() -> dict[str, list[bytes]]:
    curve = as_lines([{"step": n, "loss": 1.0 / (n + 1)} for n in range(4)])
    table = b"depth,heads,hidden,intermediate,steps,error,seed\n2,2,64,128,10,1.5,0\n2,2,64,128,20,1.25,0\n4,4,128,512,10,inf,0\n"
    worker = {"worker_id": "w"}
    journal = [
        {"op_code": 0, **worker, "study_name": "s", "directions": [1]},
        {"op_code": 2, **worker, "study_id": 0, "user_attr": {"bort.identity": {"seed": 1}}},
        {"op_code": 4, **worker, "study_id": 0, "datetime_start": "2026-11-01T00:00:00.000000", "user_attrs": {}},
        {"op_code": 8, **worker, "trial_id": 0, "user_attr": {"error": 1.5}},
        {"op_code": 6, **worker, "trial_id": 0, "state": 1, "values": [1.5], "datetime_complete": "2026-11-01T00:00:01.000000"},
    ]
    chosen = json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}})
    study = [
        {**journal[0], "directions": [2]},
        {**journal[1], "user_attr": {"bort:identity": {"strategy.name": "ose"}}},
        {**journal[2], "distributions": {"depth": chosen}, "params": {"depth": 1}, "user_attrs": {"bort:candidate": "f"}},
        {**journal[3], "user_attr": {"bort:rung:40": {"order": 0, "steps": 40, "error": 1.5, "seconds": 2.5}}},
        {"op_code": 5, **worker, "trial_id": 0, "param_name": "heads", "param_value_internal": 1, "distribution": chosen},
        journal[4],
    ]
    return {"curve": [curve], "measured": [table], "journal": [as_lines(journal)], "status": [as_lines(study)]}


def read_journal(variant: str, data: bytes, folder: Path) -> object:
    if variant == "curve":
        from bort.curve import read_curve

        return read_curve(write(folder, "curve.jsonl", data))
    if variant == "measured":
        from bort.search.table import read_table

        return read_table(str(write(folder, "table.csv", data))).of_seed(None)
    if variant == "status":
        from bort.search.storage.config import JournalStorageConfig
        from bort.search.storage.status import study_status

        return study_status(JournalStorageConfig(path=str(write(folder, "study.journal", data)), study="s"), folder)
    from bort.search.storage.files import JournalCoordination

    coordination = JournalCoordination(write(folder, "study.journal", data), "s")
    try:
        return [coordination.storage.get_all_trials(study._study_id) for study in coordination.storage.get_all_studies()]
    finally:
        coordination.close()


def spools() -> dict[str, list[bytes]]:
    point = [["loss", 1.0, 1, 0.5]]
    events: list[Mapping[str, Any]] = [
        {"event": "spool", "id": "abc", "time": 1.0},
        {"event": "run", "run": "a", "name": "search", "parent": None, "tags": {"k": "v"}, "time": 1.0},
        {"event": "params", "run": "a", "values": {"seed": "1"}},
        {"event": "metrics", "run": "a", "points": point},
        {"event": "artifact", "run": "a", "file": "../../etc/passwd", "path": "x"},
        {"event": "finish", "run": "a", "status": "FINISHED", "time": 2.0},
    ]
    cursor = {"schema": 1, "stores": {"s": {"offset": 10, "experiment_id": "1", "runs": {"a": "b"}}}}
    return {"spool": [as_lines(list(events))], "cursor": [as_json(cursor)]}


def read_spool(variant: str, data: bytes, folder: Path) -> object:
    from bort.observer import Quiet
    from bort.tracking.config import TrackingConfig
    from bort.tracking.delivery import Delivery
    from bort.tracking.spool import Spool

    write(folder, "tracking.jsonl", data if variant == "spool" else spools()["spool"][0])
    if variant == "cursor":
        write(folder, "tracking.cursor.json", data)
    with Spool(folder / "tracking.jsonl") as spool:
        events = list(spool.read())
        delivery = Delivery(TrackingConfig(uri="http://127.0.0.1:9"), spool, Quiet())
        return events, delivery.state(), delivery.run_ids(), [end for end, _ in delivery._batches(0)]
