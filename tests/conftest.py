"""What the tests of several rooms share: text, and tiny teachers with a real tokenizer, all made here from fixed seeds."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# The same examples in every run, however slow the machine: a change is judged by what it changes. HYPOTHESIS_PROFILE=search looks
# for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

_SUBJECTS = [
    "the cat",
    "a farmer",
    "my brother",
    "the old king",
    "every child",
    "our teacher",
    "the river",
    "a small boat",
    "the city",
    "no one",
]
_VERBS = ["watches", "carries", "remembers", "follows", "paints", "forgets", "crosses", "builds", "leaves", "finds"]
_OBJECTS = [
    "the bread",
    "a red house",
    "the long road",
    "seven stones",
    "the winter",
    "a letter",
    "the garden",
    "the sea",
    "some music",
    "her name",
]
_ENDINGS = [
    "in the morning",
    "without a word",
    "before the rain",
    "near the bridge",
    "every summer",
    "with great care",
    "at night",
    "again",
]


def make_documents(count: int, seed: int = 0) -> list[str]:
    """Returns ``count`` documents of three to seven sentences over a vocabulary of about a hundred words."""
    draw = random.Random(seed)
    documents = []
    for number in range(count):
        sentences = [
            f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_OBJECTS)} {draw.choice(_ENDINGS)} ."
            for _ in range(draw.randint(3, 7))
        ]
        documents.append(f"story {number} . " + " ".join(sentences))
    return documents


@pytest.fixture(autouse=True, scope="session")
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the user's own state, such as the key of the marks of stores, out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def fixed_draws() -> None:
    """Begins every test at the same place of the generators that whatever it calls may draw from."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_store_of_its_own() -> Iterator[None]:
    """Finds out who lets MLflow use the store that it makes in the working directory where it is told of none."""
    places = [Path.cwd() / name for name in ("mlflow.db", "mlruns")]
    before = [place.exists() for place in places]
    yield
    assert [place.exists() for place in places] == before, "this test made MLflow's own store in the working directory"


@pytest.fixture(scope="session")
def tiny_documents() -> list[str]:
    """Eighty short documents: more than a hundred blocks of 32 tokens."""
    return make_documents(80)


@pytest.fixture(scope="session")
def tiny_text_directory(tiny_documents: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two plain text files, their documents parted by blank lines."""
    folder = tmp_path_factory.mktemp("text")
    half = len(tiny_documents) // 2
    (folder / "first.txt").write_text("\n\n".join(tiny_documents[:half]) + "\n", encoding="utf-8")
    (folder / "second.txt").write_text("\n\n".join(tiny_documents[half:]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_documents: list[str]) -> Any:
    """A WordPiece tokenizer of the documents' letters, most frequent pairs of them and most frequent words, in BERT's layout.

    The vocabulary is counted here: the library's trainer breaks ties by a hash's order, another one in each process, and with
    the ids the figures of every model here would change from run to run.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = Counter(" ".join(tiny_documents).lower().split())
    letters = sorted(set("".join(words)))
    pairs = Counter(f"##{word[at : at + 2]}" for word in words.elements() for at in range(1, len(word) - 1))
    names = [*special, *letters, *(f"##{letter}" for letter in letters)]
    names += _most_frequent({word: count for word, count in words.items() if len(word) > 1}, 40)
    names += _most_frequent(pairs, 160 - len(names))
    core = Tokenizer(models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=core, model_max_length=64)


@pytest.fixture(scope="session")
def tiny_teacher_directory(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT encoder of two layers without a masked-LM head, as sentence encoders are published."""
    from transformers import BertModel

    return _save(BertModel, _bert_config(len(tiny_tokenizer)), tiny_tokenizer, tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def tiny_masked_lm_directory(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with its masked-LM head."""
    from transformers import BertForMaskedLM

    return _save(BertForMaskedLM, _bert_config(len(tiny_tokenizer)), tiny_tokenizer, tmp_path_factory.mktemp("masked_lm"))


@pytest.fixture(scope="session")
def tiny_roberta_directory(tiny_documents: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa of two layers with its masked-LM head and a byte-level BPE tokenizer."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaForMaskedLM, RobertaTokenizerFast

    from bort.architecture import Architecture

    core = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core.train_from_iterator(tiny_documents, vocab_size=320, special_tokens=special, show_progress=False)
    files = tmp_path_factory.mktemp("bpe")
    core.save_model(str(files))
    tokenizer = RobertaTokenizerFast.from_pretrained(files, model_max_length=64)
    config = Architecture(2, 2, 16, 32).config(
        "roberta", vocab_size=len(tokenizer), positions=64, token_types=1, pad_token_id=1, bos_token_id=0, eos_token_id=2
    )
    return _save(RobertaForMaskedLM, config, tokenizer, tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all suites in the layouts of their downloads."""
    from tests.official import write_all

    return write_all(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="session")
def reader(official: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of random weights whose vocabulary holds the words of the invented data, and which reads 64 tokens."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    text = "".join(path.read_text(encoding="utf-8") for path in sorted(official.rglob("*")) if path.is_file())
    words = sorted(set(re.findall(r"[a-z]+|\d|[^\w\s]", text.lower())))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "_", *words, *(f"##{digit}" for digit in range(10))]
    path = tmp_path_factory.mktemp("reader")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=64, initializer_range=0.2, **shape)
    BertForMaskedLM(config).save_pretrained(path)
    BertTokenizer(vocab={piece: index for index, piece in enumerate(dict.fromkeys(pieces))}, model_max_length=64).save_pretrained(
        path
    )
    return path


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database: the one that BORT_TEST_POSTGRES names, or one of a server that is started for the tests."""
    from tests.faults.postgres import server, why_not

    if url := os.environ.get("BORT_TEST_POSTGRES"):
        yield url
    elif reason := why_not():
        pytest.skip(reason)
    else:
        with server() as postgres:
            yield postgres.url


def _most_frequent(counts: Mapping[str, int], number: int) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))[:number]


def _bert_config(vocab_size: int) -> Any:
    from bort.architecture import Architecture

    return Architecture(2, 2, 16, 32).config("bert", vocab_size=vocab_size, positions=64, token_types=2)


def _save(kind: Any, config: Any, tokenizer: Any, folder: Path) -> Path:
    import torch

    # A larger spread than BERT's 0.02: the outputs of a random encoder should differ clearly from token to token. Students that
    # take over the teacher's settings start with the usual one.
    config.initializer_range = 0.3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                # Biases start at zero and norms at one; a wrong one would go unnoticed.
                torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
    model.config.initializer_range = 0.02
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
