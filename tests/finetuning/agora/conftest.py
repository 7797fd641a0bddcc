"""A tiny teacher with a masked-LM head that is student and labeller in one, and a task that it learns in seconds."""

from __future__ import annotations

import numpy as np
import pytest

from bort.tasks.task import Example, Task

GOOD, BAD = ("good", "great", "fine", "superb"), ("bad", "poor", "awful", "dull")
PLAIN = [letter * 2 for letter in "abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory):
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    path = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN, "film", "."]
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=32, **shape))
    with torch.no_grad():
        # Words of one side are neighbours, as in an encoder that was trained.
        table = model.bert.embeddings.word_embeddings.weight
        for side, sign in ((GOOD, 1.0), (BAD, -1.0)):
            for word in side:
                table[words.index(word)] += sign * 0.05
    model.save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}, model_max_length=32).save_pretrained(path)
    return path


def examples(count, start, pair=False):
    generator = np.random.default_rng(start)
    made = []
    for index in range(count):
        sign = index % 2
        parts = list(generator.choice(PLAIN, size=generator.integers(4, 9)))
        for place in generator.permutation(len(parts))[:2]:
            parts[place] = str(generator.choice(GOOD if sign else BAD))
        text = " ".join(parts)
        made.append(Example(f"f:{start + index}", (text, f"film {parts[0]}") if pair else (text,), float(sign)))
    return made


@pytest.fixture(scope="session")
def toy():
    parts = [examples(count, start) for count, start in ((48, 0), (40, 1000), (40, 2000))]
    return Task("toy", "classification", ["negative", "positive"], ["accuracy", "f1"], *parts, max_length=24)


@pytest.fixture(scope="session")
def pairs():
    parts = [examples(count, start, pair=True) for count, start in ((24, 0), (16, 1000), (16, 2000))]
    return Task("glue-mrpc", "classification", ["no", "yes"], ["f1", "accuracy"], *parts, max_length=24)


@pytest.fixture(scope="session")
def encoder(encoder_dir):
    from bort.finetuning.agora.encoder import Encoder

    return Encoder(encoder_dir, 24)
