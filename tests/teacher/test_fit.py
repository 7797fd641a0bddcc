from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertModel

from bort.architecture import Architecture
from bort.corpus.build import build_corpus
from bort.corpus.config import CorpusConfig, MaskingConfig
from bort.corpus.dataset import Corpus
from bort.corpus.masking import mask_blocks
from bort.errors import BortError, ConfigurationError
from bort.files import file_digest
from bort.settings import check_settings
from bort.teacher.config import HeadConfig, TeacherConfig
from bort.teacher.fit import MODEL, Baselines, fit_head, token_counts
from bort.teacher.load import load_teacher

MASKING = MaskingConfig()
HEAD = HeadConfig(steps=250, batch_size=32, learning_rate=6e-3, warmup_steps=20, log_every=10, checkpoint_every=25)


@pytest.fixture(scope="module")
def corpus(tiny_text_directory: Path, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(CorpusConfig(path=str(tiny_text_directory), block_length=32, heldout=0.2), tiny_tokenizer, folder)
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def config(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> TeacherConfig:
    """An encoder without a head, wide enough to learn something from context in a few hundred steps."""
    folder = tmp_path_factory.mktemp("bare")
    settings = Architecture(2, 2, 32, 64).config("bert", vocab_size=len(tiny_tokenizer), positions=64, token_types=2)
    settings.initializer_range = 0.1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(settings).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return TeacherConfig(path=str(folder), head=HEAD)


@pytest.fixture(scope="module")
def fitted(config: TeacherConfig, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("fitted")
    return folder, fit_head(config, corpus, MASKING, folder)


def shortened(config: TeacherConfig, **changes: Any) -> TeacherConfig:
    return replace(config, head=replace(config.head, **{"steps": 12, "checkpoint_every": 5, "log_every": 4} | changes))


def weights(folder: Path) -> str:
    return file_digest(folder / MODEL / "model.safetensors")


def test_a_fitted_head_learns_and_is_compared_with_what_needs_no_context(fitted: tuple[Path, dict[str, Any]]):
    _, record = fitted
    unigram, copy = record["baselines"]["unigram"], record["baselines"]["copy"]
    assert record["cross_entropy"] < unigram["cross_entropy"] - 0.05
    assert record["accuracy"] > unigram["accuracy"]
    assert copy["accuracy"] > unigram["accuracy"]
    assert copy["cross_entropy"] < unigram["cross_entropy"]
    assert 0 < record["accuracy_at_mask"] < 1
    assert [point["step"] for point in record["curve"]] == list(range(10, 251, 10))


def test_the_fitted_teacher_is_a_masked_lm_of_transformers(fitted: tuple[Path, dict[str, Any]], corpus: Corpus):
    folder, record = fitted
    model, report = AutoModelForMaskedLM.from_pretrained(folder / MODEL, output_loading_info=True)
    assert not report["missing_keys"]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert AutoTokenizer.from_pretrained(folder / MODEL).mask_token_id == corpus.special["mask"]
    indices = np.arange(record["heldout_blocks"])
    masked = mask_blocks(corpus.heldout[indices], indices, 0, MASKING, corpus.special, corpus.vocab_size)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(masked.input_ids)).logits
    chosen = logits.gather(1, torch.from_numpy(masked.positions)[..., None].expand(-1, -1, logits.shape[-1]))
    labels = torch.from_numpy(masked.labels)
    cross_entropy = torch.nn.functional.cross_entropy(chosen.flatten(0, 1).double(), labels.flatten())
    assert record["cross_entropy"] == pytest.approx(float(cross_entropy), rel=1e-5)
    assert record["accuracy"] == pytest.approx(float((chosen.argmax(-1) == labels).double().mean()), abs=1e-6)
    teacher = load_teacher(TeacherConfig(path=str(folder / MODEL)))
    assert teacher.has_head
    assert teacher.splits


def test_a_frozen_encoder_stays_as_it_is(config: TeacherConfig, corpus: Corpus, tmp_path: Path):
    fit_head(shortened(config, train="head"), corpus, MASKING, tmp_path)
    before, after = load_teacher(config), load_teacher(TeacherConfig(path=str(tmp_path / MODEL)))
    for (name, old), (_, new) in zip(before.encoder.state_dict().items(), after.encoder.state_dict().items(), strict=True):
        assert torch.equal(old, new), name
    assert after.digest != before.digest


def test_an_interrupted_fit_ends_with_the_same_weights(config: TeacherConfig, corpus: Corpus, tmp_path: Path):
    short = shortened(config)
    whole = fit_head(short, corpus, MASKING, tmp_path / "whole")

    class Stopping:
        def progress(self, label: str, done: float, *_: object) -> None:
            if done == 8:
                raise KeyboardInterrupt

        def metrics(self, *_: object) -> None: ...

        def warn(self, *_: object) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        fit_head(short, corpus, MASKING, tmp_path / "killed", observer=Stopping())
    assert not (tmp_path / "killed" / MODEL).exists()
    resumed = fit_head(short, corpus, MASKING, tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert resumed["curve"] == whole["curve"]
    assert {key: resumed[key] for key in ("accuracy", "cross_entropy", "weights")} == {
        key: whole[key] for key in ("accuracy", "cross_entropy", "weights")
    }
    assert not list((tmp_path / "killed" / "checkpoints").glob("*.safetensors"))


_KILLED = """
import json, os, signal, sys
from bort.corpus.config import MaskingConfig
from bort.corpus.dataset import Corpus
from bort.teacher.config import HeadConfig, TeacherConfig
from bort.teacher.fit import fit_head
class Killing:
    def progress(self, label, done, *_):
        if done == 8:
            os.kill(os.getpid(), signal.SIGKILL)
    def metrics(self, *_): ...
    def warn(self, *_): ...
head = HeadConfig(**json.loads(sys.argv[4]))
fit_head(TeacherConfig(path=sys.argv[1], head=head), Corpus.open(sys.argv[2]), MaskingConfig(), sys.argv[3], observer=Killing())
"""


def test_a_killed_process_loses_no_more_than_to_its_last_checkpoint(config: TeacherConfig, corpus: Corpus, tmp_path: Path):
    head = json.dumps(asdict(shortened(config).head))
    arguments = [config.path, str(corpus.directory), str(tmp_path / "killed"), head]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-c", _KILLED, *arguments], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    steps: list[float] = []

    class Listening:
        def progress(self, label: str, done: float, *_: object) -> None:
            if label == "head":
                steps.append(done)

        def metrics(self, *_: object) -> None: ...

        def warn(self, *_: object) -> None: ...

    fit_head(shortened(config), corpus, MASKING, tmp_path / "killed", observer=Listening())
    assert steps == list(range(6, 13))
    fit_head(shortened(config), corpus, MASKING, tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_a_second_call_finds_the_fit_and_a_damaged_one_is_made_again(
    config: TeacherConfig, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    short = shortened(config)
    record = fit_head(short, corpus, MASKING, tmp_path)
    # How often it is logged and saved does not make another teacher of it.
    with monkeypatch.context() as patch:
        patch.setattr("bort.teacher.fit._Fit", None)
        assert fit_head(shortened(config, checkpoint_every=7), corpus, MASKING, tmp_path) == record
    path = tmp_path / MODEL / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    warnings: list[str] = []

    class Listening:
        def progress(self, *_: object) -> None: ...

        def metrics(self, *_: object) -> None: ...

        def warn(self, message: str) -> None:
            warnings.append(message)

    assert fit_head(short, corpus, MASKING, tmp_path, observer=Listening())["weights"] == record["weights"]
    assert "missing or damaged; the head is fitted again" in warnings[0]


def test_a_fit_that_diverges_says_where(config: TeacherConfig, corpus: Corpus, tmp_path: Path):
    with pytest.raises(BortError, match=r"diverged at step \d+.*teacher\.head\.learning_rate"):
        fit_head(shortened(config, learning_rate=1e30, clip=0.0), corpus, MASKING, tmp_path)
    assert not (tmp_path / MODEL).exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("missing", "guess"),
        ("train", "half"),
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("warmup_steps", -1),
        ("weight_decay", -0.1),
        ("clip", -1.0),
        ("blocks", 0),
        ("heldout_blocks", 0),
        ("seed", -1),
        ("log_every", 0),
        ("checkpoint_every", 0),
    ],
)
def test_settings_that_cannot_be_used_are_refused(name: str, value: Any):
    with pytest.raises(ConfigurationError, match=rf"teacher\.head\.{name}={value} is invalid"):
        check_settings(replace(HEAD, **{name: value}), "teacher.head")


def test_the_baselines_are_those_of_their_definition(corpus: Corpus):
    counts = token_counts(corpus, corpus.vocab_size)
    assert counts[corpus.special["cls"]] == counts[corpus.special["pad"]] == 0
    special = [token for name, token in corpus.special.items() if name != "unk"]
    assert counts.sum() == (~np.isin(corpus.train[:], special)).sum()
    baselines = Baselines(counts, MASKING, corpus.special)
    indices = np.arange(len(corpus.heldout))
    masked = mask_blocks(corpus.heldout[indices], indices, 0, MASKING, corpus.special, corpus.vocab_size)
    shown = np.take_along_axis(masked.input_ids, masked.positions, axis=1)
    baselines.add(shown[:3], masked.labels[:3])
    baselines.add(shown[3:], masked.labels[3:])
    # An independent reference, position by position.
    vocabulary, ordinary = corpus.vocab_size, corpus.vocab_size - len(corpus.special)
    frequency = (counts + 1) / (counts + 1).sum()
    right = {"unigram": 0, "copy": 0}
    nats = {"unigram": 0.0, "copy": 0.0}
    for token, label in zip(shown.ravel(), masked.labels.ravel(), strict=True):
        right["unigram"] += label == counts.argmax()
        right["copy"] += label == (counts.argmax() if token == corpus.special["mask"] else token)
        nats["unigram"] -= np.log(frequency[label])
        if token == corpus.special["mask"]:
            likelihood = np.ones(vocabulary)
        else:
            likelihood = np.full(vocabulary, MASKING.random / ordinary)
            likelihood[token] += MASKING.keep
        nats["copy"] -= np.log(frequency[label] * likelihood[label] / (frequency * likelihood).sum())
    total = masked.labels.size
    for name, figures in baselines.figures().items():
        assert figures["accuracy"] == pytest.approx(right[name] / total)
        assert figures["cross_entropy"] == pytest.approx(nats[name] / total)
