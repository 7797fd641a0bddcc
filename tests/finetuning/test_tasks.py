"""Every task of GLUE, SuperGLUE and RACE through its head: a few steps, a score, a submission, and back by plain transformers."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from bort.errors import BortError
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.scoring import evaluate
from bort.finetuning.setup import FinetuningSetup
from bort.finetuning.train import finetune_once
from bort.tasks.config import TaskConfig
from bort.tasks.load import load_task
from tests.official import DIAGNOSTIC, TRAINED, recipe

FEW_STEPS = FinetuningConfig(learning_rate=1e-3, epochs=1, batch_size=16, resamples=20)
HEADS = {"classification": "ForSequenceClassification", "regression": "ForSequenceClassification", "choice": "ForMultipleChoice"}


def loaded(name, official, training=True):
    shares = {} if name.startswith("race") or name in DIAGNOSTIC else {"steering": 8}
    return load_task(recipe(name, official, **shares), training=training)


@pytest.fixture(scope="module")
def models(reader, official, tmp_path_factory):
    """Fine-tunes on a task for a few steps when first asked for it."""
    made = {}

    def model(name):
        if name not in made:
            place = tmp_path_factory.mktemp(name.replace("/", "-"))
            made[name] = (finetune_once(FinetuningSetup(reader, loaded(name, official), FEW_STEPS), place), place)
        return made[name]

    return model


@pytest.mark.parametrize("name", TRAINED)
def test_every_task_trains_scores_and_writes_its_submission(name, models, official, tmp_path):
    record, place = models(name)
    task = loaded(name, official, training=False)
    assert set(record["heldout"]) == set(task.metrics)
    assert record["steps"] == -(-len(task.train) // 16)
    config = json.loads((place / "model" / "config.json").read_text())
    assert config["architectures"][0].endswith(HEADS[task.kind])
    assert list(config["id2label"].values()) == (list(task.labels) or ["score"])
    assert config["bort_task"] == {"name": task.name, "kind": task.kind, "labels": list(task.labels)}
    result = evaluate(place / "model", task, directory=tmp_path)
    found = {metric: score["value"] for metric, score in result["metrics"].items()}
    assert found == pytest.approx(record["heldout"])
    if task.unlabelled:
        with zipfile.ZipFile(result["submission"]["zip"]) as archive:
            assert archive.namelist() == [task.submission]
    said = [json.loads(line) for line in result["predictions"].splitlines()]
    assert [line["id"] for line in said] == [example.identity for example in task.heldout]


@pytest.mark.parametrize(
    ("name", "source"), [("glue/ax", "glue/mnli"), ("superglue/ax_b", "superglue/rte"), ("superglue/ax_g", "superglue/rte")]
)
def test_diagnostic_sets_are_evaluated_with_the_model_of_another_task(name, source, models, official, tmp_path):
    task = loaded(name, official, training=False)
    result = evaluate(models(source)[1] / "model", task, directory=tmp_path)
    assert set(result["metrics"]) == (set() if name == "glue/ax" else set(task.metrics))
    assert (tmp_path / task.submission).is_file()
    assert len(result["predictions"].splitlines()) == len(task.heldout or task.unlabelled)


@pytest.mark.parametrize("name", ["superglue/copa", "race/middle", "superglue/record"])
def test_options_are_scored_as_plain_transformers_scores_them(name, models, official, tmp_path):
    from transformers import AutoModelForMultipleChoice, AutoTokenizer

    place = models(name)[1] / "model"
    task = loaded(name, official)
    model, tokenizer = AutoModelForMultipleChoice.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    said = [json.loads(line) for line in evaluate(place, task)["predictions"].splitlines()]
    for example, line in zip(task.heldout[:6], said, strict=False):
        pairs = task.sequences(example)
        inputs = tokenizer([pair[0] for pair in pairs], [pair[1] for pair in pairs], padding=True, return_tensors="pt")
        with torch.inference_mode():
            scores = model(**{key: value.unsqueeze(0) for key, value in inputs.items()}).logits[0]
        assert line["probabilities"] == pytest.approx(scores.softmax(-1).tolist(), abs=1e-5)
        assert line["option"] == int(scores.argmax())
        assert line["prediction"] == example.options[line["option"]]


@pytest.mark.parametrize("name", ["glue/mnli", "glue/stsb", "superglue/copa"])
def test_labels_travel_with_the_exported_model(name, models, official, tmp_path):
    from bort.export.config import ExportConfig
    from bort.export.models import export_model

    place = models(name)[1] / "model"
    exported = export_model(place, tmp_path, config=ExportConfig(onnx=False))["transformers"]["path"]
    task = loaded(name, official)
    first, second = (evaluate(where, task)["predictions"] for where in (place, exported))
    assert first == second
    assert json.loads((tmp_path / "transformers" / "config.json").read_text())["bort_task"]["labels"] == list(task.labels)


def choices(tmp_path, count=160):
    """Questions whose right option names the colour of the passage: the rest of it says nothing."""
    draw = np.random.default_rng(0)
    colours = ["red", "blue", "green"]
    path = tmp_path / "colours.jsonl"
    with path.open("w") as file:
        for number in range(count):
            right = int(draw.integers(3))
            order = [colours[(right + place) % 3] for place in range(3)]
            place = number % 3
            order[0], order[place] = order[place], order[0]
            record = {"passage": f"{colours[right]} {colours[right]} kettle {number}", "options": order, "answer": place}
            file.write(json.dumps(record) + "\n")
    return path


@pytest.fixture(scope="module")
def matcher(tmp_path_factory):
    """A tiny BERT that can tell whether two words are the same after a few seconds."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "green", "kettle"]
    path = tmp_path_factory.mktemp("matcher")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=16, **shape)).save_pretrained(path)
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}, model_max_length=16).save_pretrained(path)
    return path


def test_a_choice_of_the_users_own_is_learnt(matcher, tmp_path):
    task = load_task(TaskConfig(train=str(choices(tmp_path)), kind="choice", text="passage", options="options", label="answer"))
    config = FinetuningConfig(learning_rate=5e-3, epochs=8, batch_size=16, dropout=0.0)
    record = finetune_once(FinetuningSetup(matcher, task, config), tmp_path / "run")
    # A third of the guesses would be right.
    assert record["heldout"]["accuracy"] > 0.6
    mean = finetune_once(FinetuningSetup(matcher, task, FinetuningConfig(epochs=1, pooling="mean")), tmp_path / "mean")
    scored = evaluate(tmp_path / "mean" / "model", task)
    assert scored["metrics"]["accuracy"]["value"] == pytest.approx(mean["heldout"]["accuracy"])


def test_a_model_of_another_kind_is_refused(models, official):
    with pytest.raises(BortError, match=r"fine-tuned for a choice and task glue-rte is a classification"):
        evaluate(models("superglue/copa")[1] / "model", loaded("glue/rte", official))
    with pytest.raises(BortError, match=r"fine-tuned for a classification and task superglue-copa is a choice"):
        evaluate(models("glue/rte")[1] / "model", loaded("superglue/copa", official))
    with pytest.raises(BortError, match=r"labels \(entailment, not_entailment\) are not those of task glue-mnli"):
        evaluate(models("glue/rte")[1] / "model", loaded("glue/mnli", official))
