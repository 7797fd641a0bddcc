from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw

import bort.export.models
import bort.measure.runtime
from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.export.card import model_card
from bort.export.config import ExportConfig
from bort.export.convert import onnx_file
from bort.export.gate import Gate
from bort.export.models import export_model
from bort.export.parity import torch_runner
from bort.measure.models import load_model
from bort.measure.runtime import open_session, run_session
from bort.settings import check_settings

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the export extra is not installed: pip install 'bort[export]'")
SHAPE = Architecture(1, 2, 32, 48)
TOKENS = ["input_ids", "attention_mask"]


def save(directory: Path, name: str, **settings) -> Path:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(1)
    family = "roberta" if name.startswith("Roberta") else "bert"
    config = SHAPE.config(family, vocab_size=60, positions=24, **settings)
    getattr(transformers, name)(config).save_pretrained(directory)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(55))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    given = [*TOKENS, "token_type_ids"] if settings.get("token_types") == 2 else TOKENS
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=given, **special).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def students(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("students")
    return {
        "masked-lm": save(home / "masked-lm", "BertForMaskedLM", token_types=2),
        "classifier": save(
            home / "classifier", "RobertaForSequenceClassification", num_labels=3, id2label={0: "bad", 1: "fair", 2: "good"},
            label2id={"bad": 0, "fair": 1, "good": 2}, pad_token_id=0,
        ),
        "encoder": save(home / "encoder", "BertModel"),
        "regression": save(home / "regression", "BertForSequenceClassification", num_labels=1, token_types=2),
        "choice": save(home / "choice", "BertForMultipleChoice", token_types=2),
    }  # fmt: skip


def test_the_transformers_directory_loads_without_bort(students, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    result = export_model(students["classifier"], tmp_path, config=ExportConfig(onnx=False))
    home = Path(result["transformers"]["path"])
    model = AutoModelForSequenceClassification.from_pretrained(home).eval()
    original = AutoModelForSequenceClassification.from_pretrained(students["classifier"]).eval()
    inputs = AutoTokenizer.from_pretrained(home)("word1 word2 word9", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, original(**inputs).logits, atol=1e-5, rtol=0)
    assert model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert result["transformers"]["difference"] <= 1e-5
    assert result["kind"] == "sequence classifier"
    assert "onnx" not in result
    assert (home / "README.md").read_text(encoding="utf-8").startswith("---\nlicense:")
    assert not list(tmp_path.glob(".*")), "no temporary is left behind"


@pytest.fixture(scope="module")
def exported(students, tmp_path_factory) -> dict:
    """The masked-LM student in every form: exporting takes seconds, so it is done once."""
    if not HAS_ONNX:
        pytest.skip("the export extra is not installed: pip install 'bort[export]'")
    config = ExportConfig(checks=3, int8=True, optimised=True)
    return export_model(students["masked-lm"], tmp_path_factory.mktemp("exported"), config=config)


def runs_with_any_batch_and_length(result: dict, name: str, shape: tuple[int, ...], inputs: list[str]) -> None:
    session = open_session(result["onnx"]["path"])
    assert [node.name for node in session.get_inputs()] == inputs
    assert [node.name for node in session.get_outputs()] == [name]
    ids = np.full((3, 5), 7)
    assert run_session(session, ids, np.ones_like(ids)).shape == shape
    assert result["onnx"]["difference"] <= 1e-4
    assert str(Path(__file__).parents[2]).encode() not in Path(result["onnx"]["path"]).read_bytes(), "no path of this machine"


def test_a_masked_language_model_becomes_onnx(exported):
    runs_with_any_batch_and_length(exported, "logits", (3, 5, 60), [*TOKENS, "token_type_ids"])
    assert exported["optimised"]["difference"] <= 1e-4


@needs_onnx
def test_a_classifier_becomes_onnx_and_nothing_is_printed(students, tmp_path, capfd):
    runs_with_any_batch_and_length(
        export_model(students["classifier"], tmp_path, config=ExportConfig(checks=3, int8=True, optimised=True)),
        "logits",
        (3, 3),
        TOKENS,
    )
    assert capfd.readouterr() == ("", "")


@needs_onnx
def test_a_multiple_choice_model_becomes_onnx_that_scores_each_option(students, tmp_path):
    result = export_model(students["choice"], tmp_path, config=ExportConfig(checks=3))
    runs_with_any_batch_and_length(result, "logits", (3, 1), [*TOKENS, "token_type_ids"])
    assert "AutoModelForMultipleChoice" in Path(result["card"]).read_text(encoding="utf-8")


@needs_onnx
def test_texts_that_the_tokenizer_does_not_tell_apart_need_no_token_types(students, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(students["masked-lm"], copy)
    settings = json.loads((copy / "tokenizer_config.json").read_text(encoding="utf-8"))
    (copy / "tokenizer_config.json").write_text(json.dumps({**settings, "model_input_names": TOKENS}), encoding="utf-8")
    runs_with_any_batch_and_length(export_model(copy, tmp_path, config=ExportConfig(checks=3)), "logits", (3, 5, 60), TOKENS)


@needs_onnx
def test_an_encoder_becomes_onnx(students, tmp_path):
    path = tmp_path / "encoder.onnx"
    onnx_file(load_model(students["encoder"]), path)
    runs_with_any_batch_and_length({"onnx": {"path": path, "difference": 0.0}}, "last_hidden_state", (3, 5, 32), TOKENS)


def test_int8_takes_in_the_embedding(exported):
    assert exported["int8"]["accepted"] is None, "without a task it is not judged"
    import onnx

    held = [(tensor.data_type, list(tensor.dims)) for tensor in onnx.load(exported["int8"]["path"]).graph.initializer]
    eight_bits = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    assert any((kind, [60, 32]) in held for kind in eight_bits)
    assert (onnx.TensorProto.FLOAT, [60, 32]) not in held


def test_int8_that_fails_its_gate_is_kept_out(exported, students, tmp_path, monkeypatch):
    monkeypatch.setattr(bort.export.models, "onnx_file", lambda _, path, **__: shutil.copy(exported["onnx"]["path"], path))
    scores = {"model.onnx": (0.9, [0.0, 1.0]), "model_int8.onnx": (0.8, [0.0, 0.0])}
    gate = Gate("reviews", "accuracy", 2, lambda path: scores[path.name])
    result = export_model(students["masked-lm"], tmp_path, config=ExportConfig(int8=True, checks=2), gate=gate)
    assert result["int8"]["accepted"] is False
    assert result["int8"]["path"] is None
    assert result["int8"]["difference"] is None
    assert (result["int8"]["full_score"], result["int8"]["score"], result["int8"]["changed"]) == (0.9, 0.8, 1)
    assert [form["quantised"] for form in result["int8"]["tried"]] == ["weights and embedding", "embedding alone"]
    assert (tmp_path / "onnx" / "model.onnx").exists()
    assert not (tmp_path / "onnx" / "model_int8.onnx").exists()
    card = Path(result["card"]).read_text(encoding="utf-8")
    assert "not kept: loses 10.00 points of accuracy on 2 held-out examples" in card


@needs_onnx
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=draw.data())
def test_onnx_agrees_with_torch_whatever_batch_length_mask_and_texts(exported, students, data):
    batch, length = data.draw(draw.integers(1, 5)), data.draw(draw.integers(1, 24))
    generator = np.random.default_rng(data.draw(draw.integers(0, 2**32)))
    ids = generator.integers(0, 60, size=(batch, length))
    mask = (generator.random((batch, length)) < data.draw(draw.floats(0.1, 1.0))).astype(np.int64)
    mask[:, generator.integers(length)] = 1
    types = generator.integers(0, 2, size=(batch, length))
    ours = torch_runner(load_model(students["masked-lm"]))(ids, mask, types)
    for form in ("onnx", "optimised"):
        session = sessions(exported[form]["path"])
        assert np.abs(run_session(session, ids, mask, types) - ours).max() <= 1e-4
    if types.any():
        assert np.abs(run_session(session, ids, mask) - ours).max() > 1e-4, "the second text is read as such"


@functools.cache
def sessions(path: str):
    return open_session(path)


def test_a_model_that_disagrees_is_refused(exported, students, tmp_path, monkeypatch):
    monkeypatch.setattr(bort.export.models, "onnx_file", lambda _, path, **__: shutil.copy(exported["int8"]["path"], path))
    with pytest.raises(BortError, match=r"refused: the ONNX file differs from torch by .* at most 0\.0001 is accepted"):
        export_model(students["masked-lm"], tmp_path, config=ExportConfig(checks=2))
    assert not (tmp_path / "onnx").exists()


def test_what_cannot_be_exported_is_refused_in_a_sentence(students, tmp_path):
    config = ExportConfig(onnx=False)
    with pytest.raises(BortError, match="nowhere is not a directory"):
        export_model(tmp_path / "nowhere", tmp_path / "out", config=config)
    copy = tmp_path / "copy"
    shutil.copytree(students["encoder"], copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BortError, match="holds no tokenizer"):
        export_model(copy, tmp_path / "out", config=config)
    shutil.copytree(students["encoder"], copy, dirs_exist_ok=True)
    (copy / "model.safetensors").unlink()
    with pytest.raises(BortError, match="holds no weights"):
        export_model(copy, tmp_path / "out", config=config)
    shutil.copytree(students["encoder"], copy, dirs_exist_ok=True)
    settings = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps({**settings, "architectures": ["BertForMaskedLM"]}), encoding="utf-8")
    with pytest.raises(BortError, match=r"lack .* parts of a masked language model"):
        export_model(copy, tmp_path / "out", config=config)
    for name, family in (("BertForQuestionAnswering", "bert"), ("GPT2LMHeadModel", "gpt2")):
        other = {**settings, "architectures": [name], "model_type": family}
        (copy / "config.json").write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(BortError, match=f"holds {name}.*encoders, masked-LM models, sequence classifiers and multiple"):
            export_model(copy, tmp_path / "out", config=config)
    (copy / "config.json").write_text(json.dumps({**settings, "architectures": ["BertForMaskedLM"], "model_type": "bort"}))
    with pytest.raises(BortError, match=r"the original Bort as the hub has it.* bort convert"):
        export_model(copy, tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named(students, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else real(name, *rest))
    with pytest.raises(BortError, match=r"needs onnxscript, which is not installed: run pip install 'bort\[export\]'"):
        export_model(students["encoder"], tmp_path, config=ExportConfig())


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"opset": 9}, "export.opset"), ({"opset": 99}, "export.opset"), ({"tolerance": 0.0}, "export.tolerance"),
     ({"onnx": False, "int8": True}, "export.int8"), ({"checks": 0}, "export.checks"), ({"int8_loss": -1.0}, "export.int8_loss")],
)  # fmt: skip
def test_settings_are_refused_by_key(settings, key):
    with pytest.raises(ConfigurationError) as caught:
        check_settings(ExportConfig(**settings), "export")
    assert caught.value.key == key


def test_a_card_without_facts_is_still_a_card():
    card = model_card({})
    assert card.startswith("---\n")
    assert "# Bort student" in card
    assert "No licence was stated" in card


def test_a_card_tells_the_run():
    card = model_card(
        {
            "name": "Reviews",
            "licence": "apache-2.0",
            "class": "BertForSequenceClassification",
            "teacher": {"name": "all-MiniLM-L6-v2", "digest": "0123456789abcdef", "parameters": 22_713_216},
            "task": {
                "name": "rotten_tomatoes",
                "seeds": [0, 1, 2],
                "metrics": {"accuracy": {"mean": 0.8123, "low": 0.80, "high": 0.82}},
                "baselines": {"teacher": {"accuracy": 0.85}, "majority": {"accuracy": 0.5}},
            },
            "cost": {"search": {"seconds": 100.0, "processor_seconds": 190.0}, "distill": 60.0},
            "commands": ["bort reproduce experiment=demo"],
        }
    )
    assert 'license: "apache-2.0"' in card
    assert 'base_model: "all-MiniLM-L6-v2"' in card
    assert "| accuracy | 0.8123 | 0.8 – 0.82 | 0.85 | 0.5 |" in card
    assert "| search | 100 | 190 |" in card
    assert "bort reproduce experiment=demo" in card
    assert "## Limits" not in card


HOSTILE = (
    "[click](javascript:alert(1))",
    "![x](https://attacker.example/pixel.png)",
    "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "x\n\n# Owned\n\n- item\n\n```\ncode\n```\n",
    "x\u2028---\x85license: owned\r\n---",
    "a | b | c",
    "<https://attacker.example> https://attacker.example",
    "[x]: https://attacker.example\n[x]",
    "**bold** _em_ ~~gone~~ `code` &lt;b&gt; \\[x](y)",
    "__a__ _b_ a__b__c (_d_) *_e_* _f",
    "- [x](y)",
    "12. # x",
    "$x$",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_names_in_a_card_are_text_and_no_markup(text: str) -> None:
    from markdown_it import MarkdownIt

    def facts(text: str) -> dict[str, object]:
        return {
            "name": text,
            "licence": text,
            "class": text,
            "teacher": {"name": text, "architecture": text, "licence": text, "digest": text},
            "corpus": {"name": text, "licence": text},
            "search": {"winner": text, "space": text, "strategy": text, "candidates": text},
            "distillation": {"objective": text, "heldout": {text: 1.0}},
            "task": {"name": text, "seeds": [0], "metrics": {text: {"mean": 1.0}}, "baselines": {text: {text: 0.5}}},
            "cost": {text: 1.0},
            "latency": [text],
            "limits": [text],
            "commands": [f"bort export name={text}"],
            "versions": {text: text},
        }

    def shape(card: str) -> list[str]:
        tokens = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(card.partition("\n---\n")[2])
        return [token.type for token in tokens] + [child.type for token in tokens for child in token.children or []]

    card = model_card(facts(text))
    metadata, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(metadata).keys() == yaml.safe_load(model_card(facts("plain")).split("---\n")[1]).keys()
    assert shape(card) == shape(model_card(facts("plain")))
    rendered = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(body)
    heading = next(token for token in rendered if token.type == "inline")
    shown = "".join("".join(child.content for child in heading.children or []).split())
    assert shown == "".join("".join(c if c.isprintable() else " " for c in text).split()), "a reader sees the name as it is"


LOADER = """
import json, sys
import numpy, onnxruntime, torch, transformers
home, auto, output, texts = sys.argv[1:5]
tokenizer = transformers.AutoTokenizer.from_pretrained(home + "/transformers")
tokens = tokenizer(json.loads(texts), padding=True, return_tensors="np")
model = getattr(transformers, auto).from_pretrained(home + "/transformers").eval()
with torch.no_grad():
    ours = model(**{name: torch.from_numpy(values) for name, values in tokens.items()})[output].numpy()
session = onnxruntime.InferenceSession(home + "/onnx/model.onnx")
wanted = {node.name for node in session.get_inputs()}
theirs = session.run([output], {name: values for name, values in tokens.items() if name in wanted})[0]
assert "bort" not in sys.modules
print(json.dumps([ours.tolist(), theirs.tolist()]))
"""


@needs_onnx
@pytest.mark.parametrize(
    ("name", "auto", "output"),
    [("masked-lm", "AutoModelForMaskedLM", "logits"), ("regression", "AutoModelForSequenceClassification", "logits")],
)
def test_what_is_exported_gives_the_same_elsewhere(students, tmp_path, name, auto, output):
    import torch
    import transformers

    result = export_model(students[name], tmp_path, config=ExportConfig(checks=2))
    assert result["serves"] == {"masked-lm": "words", "regression": "regression"}[name]
    texts = ["word1 word2 word9", "word5"]
    command = [sys.executable, "-I", "-c", LOADER, str(tmp_path), auto, output, json.dumps(texts)]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300).stdout
    model = getattr(transformers, auto).from_pretrained(students[name]).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(students[name])(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**tokens)[output].numpy()
    ours, theirs = (np.array(found) for found in json.loads(told))
    assert np.abs(ours - expected).max() <= 1e-5
    assert np.abs(theirs - expected).max() <= 1e-4


@needs_onnx
def test_an_operator_set_that_the_runtime_lacks_is_refused_before_work(students, tmp_path, monkeypatch):
    monkeypatch.setattr(bort.measure.runtime, "_reads", lambda opset: opset <= 18)
    with pytest.raises(ConfigurationError, match=r"export.opset=20 .*<= 18"):
        export_model(students["encoder"], tmp_path / "out", config=ExportConfig())
    assert not (tmp_path / "out").exists()


def test_a_head_that_no_class_of_transformers_has_is_refused(students, tmp_path):
    home = tmp_path / "mean"
    shutil.copytree(students["encoder"], home / "encoder")
    (home / "classifier.json").write_text('{"pooling": "mean", "outputs": 2}')
    with pytest.raises(BortError, match=r"mean holds a head on the mean of all tokens, which no class of transformers has"):
        export_model(home, tmp_path / "out", config=ExportConfig(onnx=False))
    assert not (tmp_path / "out").exists()
