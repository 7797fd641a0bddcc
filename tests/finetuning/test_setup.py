"""The identities of fine-tunings: folders of earlier versions have to be found again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bort.benchmarks.agora import AgoraBenchmarkSetup
from bort.errors import ConfigurationError
from bort.files import digest
from bort.finetuning.agora.config import AgoraBenchmarkConfig, AgoraConfig
from bort.finetuning.agora.setup import AgoraSetup
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.setup import FinetuningSetup, model_digest
from bort.runtime_config import ImplConfig
from bort.tasks.task import Example, Task

EXAMPLES = [Example(f"f:{number}", (f"text {number}",), float(number % 2)) for number in range(6)]
TASK = Task("toy", "classification", ["no", "yes"], ["accuracy"], EXAMPLES[:2], EXAMPLES[2:4], EXAMPLES[4:])
PLAIN = FinetuningConfig(
    learning_rate=3e-4, seeds=[0, 1], patience=2, confidence=0.9, resamples=7, search={"batch_size": [8, 16]}, trials=3
)
CONFIGS = {"plain": PLAIN, "taught": replace(PLAIN, teacher="teacher", temperature=3.0)}
#: Of the version before there were setups.
DIGESTS = {
    "plain": {
        "run": "781bc9ce4fa08f0dd4457115f7826d4566f4bfb104628202083ad7d3b113708f",
        "training": "5e053a5a4afc3bffd94b221f5e2f27875e548f19171f44e946b2c26aa443d38c",
        "agora": "d7c6fed2c75f133cc0d178cc950fe58cb1f4a3a07f2ca63999cd134dfa7beab6",
        "sentences": "6cc385eca47796eaa6ff35acb3e0e623126b5dea80e8a4d85b394ad650366695",
    },
    "taught": {
        "run": "780a2fd07b6c43caae491c1f1ab34994a5f068e8684f74548f84da576ad9a4b2",
        "training": "7988bd81b6e3e85d089a7765299bb0fdef13aa96fcf6f76a3953dad81dafc036",
        "agora": "785a86f007818d0acdb9d754ec42e5519a387376e140472571debd4e8b53b06d",
        "sentences": "d5b6d732d3c489e94b4d027ca17d2fe0f62e35cf032146ef2d708ed74c54476e",
    },
}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    for name in ("student", "teacher"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"name": "{name}"}}')
        (tmp_path / name / "notes.md").write_text("no part of it")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_identities_are_those_of_earlier_versions(name):
    setup = FinetuningSetup("student", TASK, CONFIGS[name], seed=5, impl=ImplConfig(device="cpu", precision="bf16"))
    agora = AgoraSetup(setup, AgoraConfig(steps=9))
    assert {
        "run": digest(setup.identity()),
        "training": setup.with_theta({"epochs": 2}).fingerprint(),
        "agora": digest(agora.identity()),
        "sentences": digest(replace(agora, sentences=("one", "two")).identity()),
    } == DIGESTS[name]


def test_identity_of_the_benchmark_is_that_of_earlier_versions():
    config = AgoraBenchmarkConfig(tasks={"t": {}}, steps={4: 6})
    setup = AgoraBenchmarkSetup("student", {}, config, PLAIN, AgoraConfig(), ("one",))
    assert digest(setup.identity())[:16] == "a1d67e7501458211"
    assert model_digest("org/name") == "c2762257bdedd1b82af1bb774def5cecb6b231582a755839eb5b361dbb14f42a"


def test_identity_changes_with_what_changes_the_result():
    setup = FinetuningSetup("student", TASK, PLAIN, seed=5)
    others = [
        replace(setup, seed=6),
        replace(setup, model_dir="teacher"),
        replace(setup, task=replace(TASK, max_length=64)),
        setup.with_theta({"epochs": 4}),
        replace(setup, config=replace(PLAIN, teacher="teacher")),
    ]
    assert len({digest(one.identity()) for one in [setup, *others]}) == len(others) + 1
    assert len({one.fingerprint() for one in [setup, *others]}) == len(others) + 1
    assert replace(setup, config=replace(PLAIN, confidence=0.5)).identity() == setup.identity()


def test_teacher_without_weight_is_not_loaded():
    taught = FinetuningSetup("student", TASK, CONFIGS["taught"])
    assert taught.teacher == "teacher"
    assert replace(taught, config=replace(taught.config, teacher_weight=0.0)).teacher is None


@pytest.mark.parametrize(("key", "change"), [("finetuning.epochs", {"config": FinetuningConfig(epochs=0)}),
                                             ("impl.precision", {"impl": ImplConfig(precision="8")})])  # fmt: skip
def test_check_refuses_an_invalid_value(key, change):
    with pytest.raises(ConfigurationError) as caught:
        FinetuningSetup("student", TASK, **change).check()
    assert caught.value.key == key
