from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.teacher import hub
from bort.teacher.config import TeacherConfig
from bort.teacher.load import load_teacher, load_tokenizer
from bort.teacher.model import Teacher


def load(directory: Path) -> Teacher:
    return load_teacher(TeacherConfig(path=str(directory)))


@pytest.fixture(params=["tiny_teacher_directory", "tiny_masked_lm_directory", "tiny_roberta_directory"])
def directory(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["tiny_masked_lm_directory", "tiny_roberta_directory"])
def headed_directory(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def some_blocks(teacher: Teacher, count: int = 3, length: int = 20) -> torch.Tensor:
    return torch.randint(5, teacher.vocab_size, (count, length), generator=torch.Generator().manual_seed(0))


def test_what_a_teacher_says_of_itself(directory: Path):
    teacher = load(directory)
    roberta = "roberta" in directory.name
    assert teacher.architecture == Architecture(2, 2, 16, 32)
    assert (teacher.family, teacher.has_head) == ("roberta" if roberta else "bert", "teacher" not in directory.name)
    assert (teacher.positions, teacher.token_types) == (64, 1 if roberta else 2)
    assert teacher.vocab_size == len(teacher.tokenizer)
    # RoBERTa's embedding has rows for the positions before the first, which no token ever takes.
    rows = teacher.positions + (2 if roberta else 0)
    counted = teacher.architecture.parameters(teacher.vocab_size, rows, token_types=teacher.token_types)
    assert teacher.parameters == counted
    assert teacher.head_parameters == (teacher.architecture.head_parameters(teacher.vocab_size) if teacher.has_head else 0)
    assert not teacher.encoder.training
    assert not any(parameter.requires_grad for parameter in teacher.encoder.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in teacher.encoder.parameters())


def test_representations_are_those_of_transformers(directory: Path):
    teacher = load(directory)
    blocks = some_blocks(teacher)
    hidden, layer_input = teacher.represent(blocks)
    with torch.no_grad():
        outputs = AutoModel.from_pretrained(directory).eval()(blocks, output_hidden_states=True)
    torch.testing.assert_close(hidden, outputs.last_hidden_state)
    torch.testing.assert_close(layer_input, outputs.hidden_states[-2])


def test_relation_inputs_are_the_live_queries_keys_and_values(directory: Path):
    teacher = load(directory)
    blocks = some_blocks(teacher)
    live = {}
    attention = teacher.encoder.encoder.layer[-1].attention.self
    handles = [
        getattr(attention, name).register_forward_hook(lambda _m, _i, output, name=name: live.__setitem__(name, output))
        for name in ("query", "key", "value")
    ]
    _, layer_input = teacher.represent(blocks)
    for handle in handles:
        handle.remove()
    for name, again in zip(("query", "key", "value"), teacher.relation_inputs(layer_input), strict=True):
        torch.testing.assert_close(again, live[name])


def test_logits_are_those_of_transformers(headed_directory: Path):
    teacher = load(headed_directory)
    blocks = some_blocks(teacher)
    hidden, _ = teacher.represent(blocks)
    with torch.no_grad():
        expected = AutoModelForMaskedLM.from_pretrained(headed_directory).eval()(blocks).logits
    torch.testing.assert_close(teacher.logits(teacher.transform(hidden)), expected)


def test_a_missing_head_is_refused_only_when_it_is_needed(tiny_teacher_directory: Path):
    teacher = load(tiny_teacher_directory)
    for use in (teacher.transform, teacher.logits):
        with pytest.raises(ConfigurationError, match=r"teacher\.path=.*a teacher with a masked-LM head.*loss=representation"):
            use(torch.zeros(1, 16))


def test_loading_leaves_the_callers_random_numbers_alone(tiny_teacher_directory: Path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load(tiny_teacher_directory)
    assert torch.equal(torch.rand(3), expected)


def test_the_digest_is_of_weights_and_tokenizer(tiny_masked_lm_directory: Path, tiny_roberta_directory: Path, tmp_path: Path):
    first = load(tiny_masked_lm_directory)
    again = tmp_path / "again"
    shutil.copytree(tiny_masked_lm_directory, again)
    assert load(again).digest == first.digest
    assert load(tiny_roberta_directory).digest != first.digest
    model = AutoModelForMaskedLM.from_pretrained(again)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.bias[3] += 1e-3
    model.save_pretrained(again)
    changed = load(again)
    assert changed.digest != first.digest
    assert changed.tokenizer_digest == first.tokenizer_digest


def test_a_tokenizer_loads_without_weights(tiny_teacher_directory: Path, tmp_path: Path):
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(tiny_teacher_directory / name, tmp_path)
    assert len(load_tokenizer(TeacherConfig(path=str(tmp_path)))) == len(AutoTokenizer.from_pretrained(tiny_teacher_directory))


def test_teachers_that_cannot_be_read_are_named(tiny_teacher_directory: Path, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"teacher\.path= is invalid"):
        load_teacher(TeacherConfig())
    with pytest.raises(BortError, match=r"The configuration of teacher\.path=.* cannot be read"):
        load(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_teacher_directory, broken)
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(BortError, match=r"The weights of teacher\.path=.*broken cannot be read"):
        load(broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(BortError, match=r"The weights of teacher\.path=.*broken cannot be read"):
        load(broken)


def test_a_checkpoint_without_all_encoder_weights_is_refused(tiny_teacher_directory: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_teacher_directory, broken)
    weights = load_file(broken / "model.safetensors")
    del weights["encoder.layer.1.attention.self.query.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BortError, match=r"incomplete: 1 of its encoder's weights are missing"):
        load(broken)


def test_other_families_are_refused_by_name(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"'t5' model.*bert, .*roberta"):
        load(tmp_path)


@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_teacher_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch, offline: bool):
    import transformers

    def unreachable(*_: object, **named: object) -> None:
        assert named["revision"] == "abc123"
        assert named["local_files_only"] is offline
        assert named["trust_remote_code"] is False
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr(hub, "hub_out_of_reach", lambda: offline)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(
        BortError, match=r"owner/name is not a directory here.*revision abc123.*teacher=directory.*couldn't connect"
    ):
        load_teacher(TeacherConfig(path="owner/name", revision="abc123"))


def test_the_hub_is_asked_once_whether_it_is_there(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    asked: list[str] = []

    class Session:
        def head(self, address: str, timeout: float) -> None:
            asked.append(address)
            raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.hub_out_of_reach.cache_clear()
    try:
        assert hub.hub_out_of_reach()
        assert hub.hub_out_of_reach()
        assert len(asked) == 1
    finally:
        hub.hub_out_of_reach.cache_clear()


def test_a_teacher_with_code_of_its_own_is_refused(tiny_teacher_directory: Path, tmp_path: Path):
    folder = tmp_path / "own"
    shutil.copytree(tiny_teacher_directory, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForMaskedLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "own.py").write_text("raise SystemExit('executed')\n", encoding="utf-8")
    with pytest.raises(BortError, match=r"The configuration of teacher\.path=.*cannot be read"):
        load(folder)


def test_weights_in_the_older_format_are_read_without_executing_anything(tiny_masked_lm_directory: Path, tmp_path: Path):
    folder = tmp_path / "older"
    shutil.copytree(tiny_masked_lm_directory, folder)
    (folder / "model.safetensors").unlink()
    model = AutoModelForMaskedLM.from_pretrained(tiny_masked_lm_directory)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert load(folder).digest == load(tiny_masked_lm_directory).digest

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"harmful": Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(BortError, match=r"The weights of teacher\.path=.*cannot be read: the file holds more than tensors"):
        load(folder)
    assert not (tmp_path / "executed").exists()


def test_a_teacher_without_a_fast_tokenizer_is_refused(tiny_teacher_directory: Path, monkeypatch: pytest.MonkeyPatch):
    import transformers

    slow = type("Slow", (), {"is_fast": False})()
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: slow)
    with pytest.raises(BortError, match=r"no fast tokenizer; add its tokenizer\.json"):
        load(tiny_teacher_directory)
