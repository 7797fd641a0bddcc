"""Every YAML file is composed, and what cannot be used is refused with one sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from hydra import compose
from omegaconf import OmegaConf

from bort.settings import check_settings
from pipelines.app.environment import CONF
from pipelines.app.messages import sentence
from pipelines.engine.schema import REGISTRIES, STAGES, Config, chosen, plain, typed
from pipelines.engine.stage import load

FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
CHOICES = [name for name in FILES if "/" in name and not name.startswith("experiment/")]
#: What a choice leaves to the user.
NEEDED = {
    "student/shape": ["student.architecture=2-2-16-32"],
    "student/directory": ["student.path=x"],
    "error/table": ["error.path=x.csv"],
    "storage/postgres": ["storage.url=postgresql://user:secret@host/db"],
    "teacher/directory": ["teacher.path=x"],
    "task/custom": ["task.train=x.csv"],
}


pytestmark = pytest.mark.usefixtures("composing")


def composed(stage: str, *overrides: str) -> Config:
    return typed(compose(stage, overrides=list(overrides)))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_composes(stage: str) -> None:
    config = composed(stage)
    for key in load(stage).settings(config):
        assert key.split(".")[0] in chosen(config, [key.split(".")[0]])


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_composes(name: str) -> None:
    group, _, choice = name.partition("/")
    config = composed("reproduce", f"{group}={choice}", *NEEDED.get(name, []))
    if name != "corpus/local":
        check_settings(getattr(config, group), group)


def test_the_papers_sources_are_the_recipes_of_their_names() -> None:
    sources = composed("corpus", "corpus=paper").corpus.sources
    assert len(sources) == 6
    for source in sources:
        recipe = composed("corpus", f"corpus={source.name}").corpus
        assert asdict(source) == {key: asdict(recipe)[key] for key in asdict(source)}


def test_sources_are_given_on_the_command_line() -> None:
    corpus = composed(
        "corpus",
        "corpus=local",
        "corpus.sources=[{name:a,path:x,markup:[html]},{name:b,path:y}]",
        "corpus.cleaning.duplicates=true",
    ).corpus
    check_settings(corpus, "corpus")
    assert [(source.name, source.path, source.markup, source.text_column) for source in corpus.sources] == [
        ("a", "x", ["html"], "text"),
        ("b", "y", [], "text"),
    ]
    assert composed("corpus", "corpus=paper", "corpus.sources.1.max_documents=5").corpus.sources[1].max_documents == 5


@pytest.mark.parametrize("name", [name.partition("/")[2] for name in FILES if name.startswith("experiment/")])
def test_every_experiment_composes(name: str) -> None:
    assert composed("reproduce", f"experiment={name}").name == name


def test_every_variant_has_a_file_of_its_name() -> None:
    for registry in REGISTRIES:
        files = {path.stem: path.read_text(encoding="utf-8") for path in (CONF / registry.group).glob("*.yaml")}
        assert set(registry) <= set(files)
        # A further file is a choice of settings for one of the classes.
        assert all(any(f"- {name}_schema" in text for name in registry) for text in files.values())


@pytest.mark.parametrize("name", CHOICES)
def test_no_choice_repeats_a_default(name: str) -> None:
    group = name.partition("/")[0]
    stated = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    if "@package" in (CONF / f"{name}.yaml").read_text(encoding="utf-8"):
        return
    kinds = {registry.group: registry for registry in REGISTRIES}
    kind = (
        kinds[group][re.findall(r"(\w+)_schema", str(stated["defaults"]))[0]] if group in kinds else get_type_hints(Config)[group]
    )
    defaults = OmegaConf.to_container(OmegaConf.structured(kind))
    for key, value in stated.items():
        assert key == "defaults" or value != defaults[key], f"{name}.yaml: {key}"


def test_every_yaml_file_opens_with_what_it_is() -> None:
    for path in CONF.rglob("*.yaml"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# "), path


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sede=1"], ["sede", "did you mean seed"]),
        (["train.learning_rat=1"], ["train.learning_rat", "did you mean train.learning_rate"]),
        (["seed=many"], ["seed=many", "an integer"]),
        (["train.learning_rate=fast"], ["train.learning_rate=fast", "a number"]),
        (["strategy=bond"], ["strategy=bond", "did you mean bound", "nsga2"]),
        (["strateg=ose"], ["strateg", "did you mean strategy"]),
        (["strategy.stride=1.5"], ["strategy.stride=1.5", "an integer"]),
        (["student=shape"], ["student.architecture", "must be set"]),
        (["name=a;b"], ["name=a;b", "in quotes", "name='\"a;b\"'"]),
        (["seed"], ["seed", "KEY=VALUE"]),
    ],
)
def test_what_cannot_be_composed_is_one_sentence(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 – Hydra and OmegaConf raise many kinds
        composed("search", *overrides)
    told = sentence(caught.value)
    assert "\n" not in told
    assert told.endswith(".")
    for word in words:
        assert word in told


def test_passwords_stay_out_of_settings() -> None:
    config = composed("search", "storage=postgres", "storage.url=postgresql://user:secret@host/db")
    assert "secret" not in str(plain(config))
    assert "user" in str(plain(config)["storage"])


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "sede=1"], ["sede", "seed"]),
        (["serch"], ["serch", "search"]),
        (["benchmark", "speed"], ["speed", "latency"]),
        (["search", "error=table", "error.path=nowhere.csv"], ["nowhere.csv"]),
        (["search", "error=proxy", "strategy.stride=0"], ["strategy.stride=0"]),
        (["search", "error=proxy", "latency=cpu", "latency.repeats=1"], ["latency.repeats=1", ">= 5"]),
        (["search", "error=proxy", "latency=cpu", "latency.sequence_length=9999"], ["latency.sequence_length=9999", "512"]),
        (["search", "teacher=./nowhere"], ["teacher.path", "nowhere"]),
        (["corpus", "corpus=./nowhere"], ["corpus.path", "nowhere"]),
        (["finetune", "task=custom", "task.train=nowhere.csv"], ["nowhere.csv"]),
        (["report", "report.source=nowhere"], ["report.source=nowhere"]),
        (["size", "not-a-model"], ["not-a-model"]),
    ],
)
def test_bad_input_ends_with_a_sentence_and_writes_nothing(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "not foreseen" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("bort: ")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert not list(tmp_path.rglob("*.json"))


def test_the_traceback_is_there_for_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORT_TRACEBACK", "1")
    assert "Traceback" in run("search", "sede=1", cwd=tmp_path).stderr


def test_completion_answers_for_stages_and_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "bort se")
    assert run("-sc", "query=bash", cwd=tmp_path).stdout.split() == ["search"]
    monkeypatch.setenv("COMP_LINE", "bort search strategy=b")
    assert "strategy=bound" in run("-sc", "query=bash", cwd=tmp_path).stdout
    monkeypatch.setenv("COMP_LINE", "bort benchmark lat")
    assert run("-sc", "query=bash", cwd=tmp_path).stdout.split() == ["latency"]
    monkeypatch.setenv("COMP_LINE", "bort benchmark latency tracking=o")
    assert "tracking=off" in run("-sc", "query=bash", cwd=tmp_path).stdout
    assert "complete " in run("-sc", "install=bash", cwd=tmp_path).stdout


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path, sweep: list[str]) -> None:
    (tmp_path / "results").touch()
    done = run("search", *sweep, "error=proxy", "tracking=off", "outputs=results", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("bort: outputs=results ")
    assert "must be a folder that can be written" in line
