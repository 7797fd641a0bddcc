from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bort.corpus.build import build_corpus
from bort.corpus.config import CorpusConfig, MaskingConfig
from bort.corpus.dataset import Corpus
from bort.corpus.masking import mask_blocks
from bort.distillation.losses import soft_cross_entropy, sparse_soft_cross_entropy
from bort.errors import BortError, ConfigurationError, RecordError
from bort.files import write_json
from bort.teacher import build, store
from bort.teacher.build import build_targets
from bort.teacher.config import TargetConfig, TeacherConfig
from bort.teacher.load import load_teacher
from bort.teacher.model import Teacher
from bort.teacher.targets import Targets, targets_identity

MASKING = MaskingConfig()
REPRESENTATION = TargetConfig(kind="representation", blocks=50, heldout_blocks=10)
LOGITS = TargetConfig(kind="logits", blocks=140, heldout_blocks=10, epochs=2)
TOPK = replace(LOGITS, form="topk", top_k=12, tail_samples=6, temperature=2.0)


@pytest.fixture(scope="module")
def corpus(tiny_text_directory: Path, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(CorpusConfig(path=str(tiny_text_directory), block_length=32, heldout=0.1), tiny_tokenizer, folder)
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def teacher(tiny_masked_lm_directory: Path) -> Teacher:
    return load_teacher(TeacherConfig(path=str(tiny_masked_lm_directory)))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    # Sixteen blocks of representations a shard, so that there are several.
    monkeypatch.setattr(store, "SHARD_BYTES", 16 * 32 * 16 * 2)


def content(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if not key.endswith("seconds")}


def opened(teacher: Teacher, corpus: Corpus, config: TargetConfig, folder: Path) -> Targets:
    build_targets(teacher, corpus, MASKING, config, folder, batch_size=7)
    return Targets.open(folder, targets_identity(teacher, corpus, MASKING, config), verify=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 4e-3)])
def test_representations_give_back_the_live_teacher(teacher: Teacher, corpus: Corpus, tmp_path: Path, dtype: str, tolerance: float):
    kept = opened(teacher, corpus, replace(REPRESENTATION, dtype=dtype), tmp_path)
    for split, blocks in (("train", corpus.train), ("heldout", corpus.heldout)):
        indices = np.array([9, 0, 3] if split == "heldout" else [49, 3, 17, 3, 20])
        batch = kept.batch(split, indices, np.full_like(indices, 7))
        hidden, layer_input = teacher.represent(torch.from_numpy(blocks[indices]))
        assert batch.transformed is None
        assert batch.hidden.dtype == torch.float32
        torch.testing.assert_close(batch.hidden, hidden, rtol=tolerance, atol=tolerance)
        for again, live in zip(teacher.relation_inputs(batch.layer_input), teacher.relation_inputs(layer_input), strict=True):
            torch.testing.assert_close(again, live, rtol=4 * tolerance, atol=4 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 4e-3)])
def test_logits_come_back_at_the_masked_positions(teacher: Teacher, corpus: Corpus, tmp_path: Path, dtype: str, tolerance: float):
    kept = opened(teacher, corpus, replace(LOGITS, dtype=dtype), tmp_path)
    for split, blocks, epochs in (("train", corpus.train, [1, 0, 1, 0]), ("heldout", corpus.heldout, [0, 0, 0, 0])):
        indices = np.array([8, 8, 1, 2])
        masked = mask_blocks(blocks[indices], indices, np.array(epochs), MASKING, corpus.special, corpus.vocab_size)
        hidden, _ = teacher.represent(torch.from_numpy(masked.input_ids))
        live = teacher.logits(teacher.transform(hidden)).gather(
            1, torch.from_numpy(masked.positions)[..., None].expand(-1, -1, teacher.vocab_size)
        )
        batch = kept.batch(split, indices, np.array(epochs))
        assert batch.hidden is batch.layer_input is None
        torch.testing.assert_close(teacher.logits(batch.transformed), live, rtol=4 * tolerance, atol=4 * tolerance)


def test_the_record_says_what_was_kept_and_its_size(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    record = build_targets(teacher, corpus, MASKING, REPRESENTATION, tmp_path)
    files = sorted(tmp_path.glob("*/*.npy"))
    assert len(files) == 2 * (4 + 1)
    assert record["predicted_bytes"] == 60 * 32 * 16 * 2 * 2
    # Each file has a header of 128 bytes besides its numbers.
    assert record["bytes"] == record["predicted_bytes"] + 128 * len(files)
    assert record["tokens"] == 60 * 32
    kept = Targets.open(tmp_path, {})
    assert (kept.kind, kept.epochs, kept.count("train"), kept.count("heldout")) == ("representation", 0, 50, 10)
    assert not (tmp_path / "representation" / build.PROGRESS).exists()


def test_all_blocks_are_kept_where_no_number_is_given(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    kept = opened(teacher, corpus, TargetConfig(), tmp_path)
    assert (kept.count("train"), kept.count("heldout")) == (len(corpus.train), len(corpus.heldout))


@pytest.mark.parametrize("config", [REPRESENTATION, LOGITS, TOPK], ids=["representation", "logits", "topk"])
@pytest.mark.parametrize("damage", [False, True])
def test_an_interrupted_build_goes_on(
    teacher: Teacher, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: TargetConfig, damage: bool
):
    whole = build_targets(teacher, corpus, MASKING, config, tmp_path / "whole")
    write = build._write_shard
    written: list[Path] = []

    def interrupted(path: Path, values: np.ndarray) -> str:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        return write(path, values)

    monkeypatch.setattr(build, "_write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_targets(teacher, corpus, MASKING, config, tmp_path / "killed")
    with pytest.raises(RecordError, match="no finished soft targets"):
        Targets.open(tmp_path / "killed", {})
    if damage:
        written[0].write_bytes(written[0].read_bytes()[:-1])
    again: list[Path] = []
    monkeypatch.setattr(build, "_write_shard", lambda path, values: (again.append(path), write(path, values))[1])
    warnings: list[str] = []

    class Listening:
        def progress(self, *_: object) -> None: ...

        def metrics(self, *_: object) -> None: ...

        def warn(self, message: str) -> None:
            warnings.append(message)

    resumed = build_targets(teacher, corpus, MASKING, config, tmp_path / "killed", observer=Listening())
    assert content(resumed) == content(whole)
    assert (written[0] in again) == damage == bool(warnings)
    # A shard of several arrays of which only the first was written is made again as a whole.
    assert (written[1] in again) == (damage and config is not LOGITS)


def test_a_second_call_finds_the_targets(teacher: Teacher, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = build_targets(teacher, corpus, MASKING, LOGITS, tmp_path)
    monkeypatch.setattr(build._Builder, "_compute", None)
    assert build_targets(teacher, corpus, MASKING, LOGITS, tmp_path) == record


def test_targets_for_something_else_are_refused_with_the_difference(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    build_targets(teacher, corpus, MASKING, LOGITS, tmp_path)
    expected = targets_identity(teacher, corpus, MASKING, LOGITS)
    with pytest.raises(RecordError, match=r"teacher: [0-9a-f]{12}… there, 0{12}… here"):
        Targets.open(tmp_path, expected | {"teacher": "0" * 64})
    other = targets_identity(teacher, corpus, replace(MASKING, seed=4), replace(LOGITS, epochs=3))
    with pytest.raises(RecordError, match=r"epochs: 2 there, 3 here; masking\.seed: 0 there, 4 here"):
        Targets.open(tmp_path, other)
    with pytest.raises(RecordError, match=r"blocks: 140 there, 30 here"):
        build_targets(teacher, corpus, MASKING, replace(LOGITS, blocks=30), tmp_path)


def test_representations_do_not_depend_on_the_masks(teacher: Teacher, corpus: Corpus):
    assert targets_identity(teacher, corpus, MASKING, REPRESENTATION) == targets_identity(
        teacher, corpus, MaskingConfig(seed=9, probability=0.3), REPRESENTATION
    )


def test_half_built_targets_for_something_else_are_refused(
    teacher: Teacher, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(build, "digest", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_targets(teacher, corpus, MASKING, REPRESENTATION, tmp_path)
    with pytest.raises(RecordError, match="dtype: float16 there, float32 here"):
        build_targets(teacher, corpus, MASKING, replace(REPRESENTATION, dtype="float32"), tmp_path)


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_a_damaged_shard_is_refused_by_name(teacher: Teacher, corpus: Corpus, tmp_path: Path, damage: str):
    build_targets(teacher, corpus, MASKING, REPRESENTATION, tmp_path)
    path = tmp_path / "representation" / "train-0000-000001.hidden.npy"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-10] if damage == "truncated" else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RecordError, match=r"train-0000-000001\.hidden\.npy.*make them again"):
        Targets.open(tmp_path, {}, verify=True)
    record = build_targets(teacher, corpus, MASKING, REPRESENTATION, tmp_path)
    assert Targets.open(tmp_path, {}, verify=True).digest == record["digest"]
    assert path.read_bytes() == whole


def test_blocks_and_epochs_that_are_not_covered_are_refused(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    kept = opened(teacher, corpus, LOGITS, tmp_path)
    with pytest.raises(BortError, match="cover 140 train blocks; block 140 was asked for"):
        kept.batch("train", np.array([0, 140]), np.array([0, 0]))
    with pytest.raises(BortError, match=r"cover 2 epoch\(s\) of masks; epoch 2 was asked for"):
        kept.batch("train", np.array([0]), np.array([2]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"blocks": 10_000}, r"targets\.blocks=10000.*the corpus has \d+ train blocks"),
        ({"heldout_blocks": 10_000}, r"targets\.heldout_blocks=10000.*held-out blocks"),
        ({"kind": "everything"}, r"targets\.kind=everything.*representation, logits"),
        ({"dtype": "int8"}, r"targets\.dtype=int8.*float16, float32"),
        ({"epochs": 0}, r"targets\.epochs=0"),
        ({"form": "all"}, r"targets\.form=all.*exact, topk"),
        ({"top_k": 0}, r"targets\.top_k=0"),
        ({"tail_samples": 0}, r"targets\.tail_samples=0"),
        ({"temperature": 0.0}, r"targets\.temperature=0\.0"),
        ({"kind": "logits", "form": "topk", "top_k": 10_000}, r"targets\.top_k=10000.*< \d+, the size of the vocabulary"),
        ({"blocks": 0}, r"targets\.blocks=0"),
        ({"heldout_blocks": -1}, r"targets\.heldout_blocks=-1"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(
    teacher: Teacher, corpus: Corpus, tmp_path: Path, change: dict[str, Any], sentence: str
):
    with pytest.raises(ConfigurationError, match=sentence):
        build_targets(teacher, corpus, MASKING, replace(REPRESENTATION, **change), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_teacher_without_a_head_has_no_logits(tiny_teacher_directory: Path, corpus: Corpus, tmp_path: Path):
    teacher = load_teacher(TeacherConfig(path=str(tiny_teacher_directory)))
    with pytest.raises(ConfigurationError, match="a masked-LM head"):
        build_targets(teacher, corpus, MASKING, LOGITS, tmp_path)


def test_a_corpus_of_another_tokenizer_is_refused(tiny_roberta_directory: Path, corpus: Corpus, tmp_path: Path):
    teacher = load_teacher(TeacherConfig(path=str(tiny_roberta_directory)))
    with pytest.raises(BortError, match="tokenised by another tokenizer"):
        build_targets(teacher, corpus, MASKING, REPRESENTATION, tmp_path)


def test_blocks_longer_than_the_teacher_reads_are_refused(
    tiny_text_directory: Path, tiny_tokenizer: Any, teacher: Teacher, tmp_path: Path
):
    build_corpus(CorpusConfig(path=str(tiny_text_directory), block_length=65, heldout=0.1), tiny_tokenizer, tmp_path)
    with pytest.raises(ConfigurationError, match=r"corpus\.block_length=65.*<= 64"):
        build_targets(teacher, Corpus.open(tmp_path), MASKING, TargetConfig(), tmp_path / "targets")


def test_a_full_disk_is_foreseen(teacher: Teacher, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(BortError, match=r"soft targets need 0\.0 GB more.*targets\.blocks"):
        build_targets(teacher, corpus, MASKING, REPRESENTATION, tmp_path)


def test_outputs_beyond_half_precision_are_refused(
    teacher: Teacher, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    represent = teacher.represent
    monkeypatch.setattr(teacher, "represent", lambda ids: tuple(value * 1e6 for value in represent(ids)))
    with pytest.raises(ConfigurationError, match=r"targets\.dtype=float16.*must be float32"):
        build_targets(teacher, corpus, MASKING, REPRESENTATION, tmp_path)


def test_both_kinds_stand_side_by_side(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    both = replace(LOGITS, kind="both", blocks=50)
    kept = opened(teacher, corpus, both, tmp_path / "both")
    assert (kept.kind, kept.epochs, kept.count("train")) == ("both", 2, 50)
    apart = {kind: opened(teacher, corpus, replace(both, kind=kind), tmp_path / kind) for kind in ("representation", "logits")}
    indices, epochs = np.array([4, 49, 4]), np.array([0, 1, 1])
    batch = kept.batch("train", indices, epochs)
    alone = apart["representation"].batch("train", indices, epochs)
    assert torch.equal(batch.hidden, alone.hidden)
    assert torch.equal(batch.layer_input, alone.layer_input)
    assert torch.equal(batch.transformed, apart["logits"].batch("train", indices, epochs).transformed)
    predicted = [targets.record["predicted_bytes"] for targets in (kept, *apart.values())]
    assert predicted[0] == predicted[1] + predicted[2]


def test_folders_of_two_builds_cannot_be_mixed(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    build_targets(teacher, corpus, MASKING, LOGITS, tmp_path / "first")
    build_targets(teacher, corpus, replace(MASKING, seed=5), LOGITS, tmp_path / "second")
    (tmp_path / "first" / "logits").rename(tmp_path / "gone")
    (tmp_path / "second" / "logits").rename(tmp_path / "first" / "logits")
    with pytest.raises(RecordError, match="do not belong together"):
        Targets.open(tmp_path / "first", {})


def test_topk_keeps_the_same_draws_whatever_the_batches(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    first = build_targets(teacher, corpus, MASKING, TOPK, tmp_path / "first", batch_size=7)
    second = build_targets(teacher, corpus, MASKING, TOPK, tmp_path / "second", batch_size=3)
    kept = [Targets.open(tmp_path / name, {}).batch("train", np.arange(9), np.ones(9, int)).kept for name in ("first", "second")]
    # The teacher's rounding may depend on the size of the batch; the classes and the draws do not.
    assert torch.equal(kept[0].ids, kept[1].ids)
    torch.testing.assert_close(kept[0].values, kept[1].values, rtol=1e-2, atol=1e-2)
    assert first["predicted_bytes"] == second["predicted_bytes"] == (2 * 140 + 10) * MASKING.positions(32) * (18 * (2 + 2) + 16)
    assert kept[0].ids.dtype == torch.int64
    draws = [Targets.open(tmp_path / "first", {}).batch("train", np.arange(9), np.full(9, epoch)).kept.ids for epoch in (0, 1)]
    assert not torch.equal(*draws)


def test_topk_gives_the_soft_cross_entropy_of_all_logits(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    config = replace(TOPK, top_k=30, tail_samples=30, blocks=140, epochs=1, dtype="float32")
    kept = opened(teacher, corpus, config, tmp_path)
    indices = np.arange(140)
    masked = mask_blocks(corpus.train[indices], indices, 0, MASKING, corpus.special, corpus.vocab_size)
    exact = teacher.logits_of(teacher.targets_of(torch.from_numpy(masked.input_ids), torch.from_numpy(masked.positions)))
    sparse = kept.batch("train", indices).kept
    student = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    expected = soft_cross_entropy(student, exact, 2.0)
    assert float(sparse_soft_cross_entropy(student, sparse.ids, sparse.weights(2.0), 2.0)) == pytest.approx(
        float(expected), rel=0.01
    )


def test_what_a_loss_leaves_open_is_filled_in():
    assert TargetConfig().kinds == ("representation",)
    filled = TargetConfig().for_loss("both", 3.0)
    assert (filled.kind, filled.kinds, filled.temperature) == ("both", ("representation", "logits"), 3.0)
    assert TargetConfig(kind="logits", temperature=1.5).for_loss("representation", 2.0) == TargetConfig(
        kind="logits", temperature=1.5
    )


def test_targets_of_an_older_layout_are_refused(teacher: Teacher, corpus: Corpus, tmp_path: Path):
    write_json(tmp_path / "targets.json", {"schema": 1, "identity": {}})
    for use in (lambda: Targets.open(tmp_path, {}), lambda: build_targets(teacher, corpus, MASKING, LOGITS, tmp_path)):
        with pytest.raises(RecordError, match=r"older version of Bort.*remove it"):
            use()
