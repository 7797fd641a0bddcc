"""One contract for every family of encoders that may be fine-tuned, with tokenizers of several kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from bort.errors import BortError
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.model import load_classifier, load_encoder
from bort.finetuning.scoring import evaluate
from bort.finetuning.setup import FinetuningSetup
from bort.finetuning.train import finetune_once
from bort.measure.models import load_model
from bort.tasks.task import Example, Task
from tests.families import FAMILIES, write_family

SETTINGS = FinetuningConfig(epochs=1, batch_size=8, learning_rate=1e-3)


def task(kind: str = "classification", count: int = 24) -> Task:
    texts = [(f"the cat watches the bread {'again' * (n % 2)} {'at night ' * (n % 40)}", "a farmer") for n in range(3 * count)]
    made = [
        Example(f"f:{n}", texts[n], float(n % 2), ("the sea", "her name", "a letter")[: 2 + n % 2] if kind == "choice" else ())
        for n in range(3 * count)
    ]
    labels = ["no", "yes"] if kind == "classification" else []
    splits = made[:count], made[count : 2 * count], made[2 * count :]
    return Task("toy", kind, labels, ["pearson" if kind == "regression" else "accuracy"], *splits, truncate="first")


def trained(encoder: Path, place: Path, kind: str = "classification") -> dict[str, Any]:
    record = finetune_once(FinetuningSetup(encoder, task(kind), SETTINGS), place)
    again = evaluate(place / "model", task(kind))
    assert {name: score["value"] for name, score in again["metrics"].items()} == pytest.approx(record["heldout"])
    return record


@pytest.fixture(scope="module")
def directories(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    for place, name in enumerate(FAMILIES):
        # Some come with a masked-LM head, some without any.
        write_family(name, tiny_tokenizer, folder / name, ("AutoModelForMaskedLM", "AutoModel")[place % 2])
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_of_any_family_is_fine_tuned_and_scores_the_same_when_loaded_again(
    family: str, directories: Path, tmp_path: Path
) -> None:
    trained(directories / family, tmp_path)


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2"])
@pytest.mark.parametrize("kind", ["regression", "choice"])
def test_other_heads_suit_other_families(family: str, kind: str, directories: Path, tmp_path: Path) -> None:
    trained(directories / family, tmp_path, kind)


def test_a_tokenizer_without_a_limit_is_cut_at_the_positions_of_the_model(tiny_tokenizer: Any, tmp_path: Path) -> None:
    bare = _bare(tiny_tokenizer, pad_token="[PAD]")
    assert bare.model_max_length > 1 << 60
    # RoBERTa's positions begin behind that of the padding token.
    for family in ("bert", "roberta"):
        trained(write_family(family, bare, tmp_path / family), tmp_path / f"{family} tuned")


def test_a_tokenizer_without_a_padding_token_gets_the_models_own(tiny_tokenizer: Any, tmp_path: Path) -> None:
    encoder = write_family("roberta", _bare(tiny_tokenizer), tmp_path / "encoder")
    assert AutoTokenizer.from_pretrained(encoder).pad_token is None
    trained(encoder, tmp_path / "tuned")
    made = AutoTokenizer.from_pretrained(tmp_path / "tuned" / "model")
    assert made.pad_token_id == AutoConfig.from_pretrained(encoder).pad_token_id


def test_code_that_comes_with_a_model_is_not_run(tiny_tokenizer: Any, tmp_path: Path) -> None:
    encoder = write_family("bert", tiny_tokenizer, tmp_path / "theirs")
    config = json.loads((encoder / "config.json").read_text())
    auto = {f"Auto{kind}": f"theirs.Their{kind}" for kind in ("Config", "Model", "ModelForSequenceClassification")}
    (encoder / "config.json").write_text(json.dumps(config | {"model_type": "theirs", "auto_map": auto}))
    (encoder / "theirs.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\n")
    for load in (lambda: load_encoder(encoder, task(), "first"), lambda: load_classifier(encoder), lambda: load_model(encoder)):
        with pytest.raises(BortError):
            load()
    assert not (tmp_path / "owned").exists()


def _bare(tokenizer: Any, **tokens: str) -> Any:
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **names, **tokens)
