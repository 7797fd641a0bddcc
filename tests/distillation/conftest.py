"""A tiny world: a word-level tokenizer, a random teacher with a masked-LM head, blocks with structure to learn, and targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bort.corpus.config import MaskingConfig
from bort.corpus.dataset import Blocks, Corpus
from bort.corpus.tokenizer import special_ids, tokenizer_digest
from bort.distillation.config import StudentConfig, TrainConfig
from bort.distillation.setup import DistillationSetup
from bort.distillation.terms import LossConfig
from bort.runtime_config import ImplConfig
from bort.teacher.build import build_targets
from bort.teacher.config import TargetConfig
from bort.teacher.model import Teacher
from bort.teacher.targets import Targets

VOCABULARY, LENGTH = 60, 12
IMPL = ImplConfig(device="cpu", threads=1)
BERT_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
ROBERTA_SPECIAL = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


def make_tokenizer(special: dict[str, str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = list(special.values()) + [f"w{i}" for i in range(VOCABULARY - 5)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def make_teacher(family: str = "bert", hidden: int = 16) -> Teacher:
    from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

    roberta = family == "roberta"
    tokenizer = make_tokenizer(ROBERTA_SPECIAL if roberta else BERT_SPECIAL)
    config = (RobertaConfig if roberta else BertConfig)(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=24,
        type_vocab_size=1 if roberta else 2,
        initializer_range=0.5,
        pad_token_id=tokenizer.pad_token_id,
        layer_norm_eps=1e-5 if roberta else 1e-12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = (RobertaForMaskedLM if roberta else BertForMaskedLM)(config)
    return Teacher(model.base_model, tokenizer, model, "a tiny teacher")


def make_corpus(teacher: Teacher, train: int = 40, heldout: int = 8) -> Corpus:
    special = special_ids(teacher.tokenizer)
    generator = np.random.Generator(np.random.Philox(7))
    rows = []
    for _ in range(train + heldout):
        start, stride = generator.integers(0, VOCABULARY - 5), generator.integers(1, 4)
        inner = 5 + (start + stride * np.arange(LENGTH - 2)) % (VOCABULARY - 5)
        rows.append([special["cls"], *inner, special["sep"]])
    blocks = np.array(rows, dtype=np.int64)
    record = {
        "digest": f"tiny-{teacher.family}",
        "block_length": LENGTH,
        "vocab_size": VOCABULARY,
        "special": special,
        "tokenizer": tokenizer_digest(teacher.tokenizer),
    }
    return Corpus(Path("nowhere"), record, Blocks(blocks[:train]), Blocks(blocks[train:]))


@dataclass
class World:
    teacher: Teacher
    corpus: Corpus
    masking: MaskingConfig
    representation: Targets
    logits: Targets

    def setup(self, loss: LossConfig, **changes: Any) -> DistillationSetup:
        """A setup with the targets that the loss needs."""
        targets = {"representation": self.representation, "logits": self.logits, None: None}.get(loss.targets)
        settings = {
            "teacher": self.teacher,
            "corpus": self.corpus,
            "targets": targets,
            "masking": self.masking,
            "loss": loss,
            "train": TrainConfig(batch_size=4, learning_rate=5e-3, warmup_steps=2, log_every=2, heldout_blocks=None),
            "student": StudentConfig(architecture="1-2-8-12"),
            "seed": 3,
        }
        return DistillationSetup(**{**settings, **changes})

    def arguments(self, loss: LossConfig, impl: ImplConfig = IMPL, **changes: Any) -> dict[str, Any]:
        """What ``distill`` takes beside shape, budget and folder, for the targets that the loss needs."""
        return {"setup": self.setup(loss, **changes), "impl": impl}


def make_world(directory: Path, family: str = "bert") -> World:
    teacher = make_teacher(family)
    corpus, masking = make_corpus(teacher), MaskingConfig(seed=5)
    made = {}
    for kind, epochs in (("representation", 1), ("logits", 2)):
        build_targets(teacher, corpus, masking, TargetConfig(kind, epochs=epochs, dtype="float32"), directory / kind)
        made[kind] = Targets.open(directory / kind, {})
    return World(teacher, corpus, masking, made["representation"], made["logits"])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def roberta_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("roberta"), "roberta")


class Listener:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []
        self.warnings: list[str] = []
        self.steps: list[int] = []

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        self.steps.append(int(done))

    def metrics(self, values: Any, step: int) -> None:
        self.points.append((step, dict(values)))

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def listener() -> Listener:
    return Listener()
