from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.app.overrides import expand, quoted, slug, swept


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("student=4-8-1024-768", ["student=shape", "student.architecture=4-8-1024-768"]),
        ("student=D4-A8-H1024-I768", ["student=shape", "student.architecture=D4-A8-H1024-I768"]),
        ("student=bort", ["student=bort"]),
        ("student=./model", ["student=directory", "student.path=./model"]),
        ("student=owner/name", ["student=directory", "student.path=owner/name"]),
        ("student=runs/a=1/model", ["student=directory", "student.path='runs/a=1/model'"]),
        ("teacher=/models/bert", ["teacher=directory", "teacher.path=/models/bert"]),
        ("corpus=./text", ["corpus=local", "corpus.path=./text"]),
        ("corpus=wikitext2", ["corpus=wikitext2"]),
        ("task=glue/cola", ["task=glue/cola"]),
        ("task=glue/cola,glue/rte", ["task=glue/cola,glue/rte"]),
        ("model=runs/a=1/model", ["evaluate.model='runs/a=1/model'"]),
        ("task.text=a,b", ["task.text=[a,b]"]),
        ("task.text=#1 String,#2 String", ["task.text=['#1 String','#2 String']"]),
        ("task.text=first sentence", ["task.text='first sentence'"]),
        ("task.text=Größe", ["task.text='Größe'"]),
        ("task.options=A, B,C", ["task.options=[A,B,C]"]),
        ("task.train=reviews (1).csv", ["task.train='reviews (1).csv'"]),
        ("task.train=a.csv,b.csv", ["task.train=a.csv,b.csv"]),
        ("task.test=null", ["task.test=null"]),
        ("task.label=1", ["task.label=1"]),
        ("task.label=1e3", ["task.label='1e3'"]),
        ("task.label='as it is'", ["task.label='as it is'"]),
        ("task.delimiter=;", ["task.delimiter=';'"]),
        ("task.delimiter=,", ["task.delimiter=','"]),
        ("task.text=[a,b]", ["task.text=[a,b]"]),
        ("student=bort,winner", ["student=bort,winner"]),
        ("seed=3", ["seed=3"]),
        ("-m", ["-m"]),
    ],
)
def test_short_forms_are_written_out(short: str, long: list[str]) -> None:
    assert expand([short]) == long


@given(st.text(min_size=1))
@example("a\\")
@example("a\\'b")
@example("1_000")
@example("nan")
def test_hydra_reads_what_was_quoted(value: str) -> None:
    override = OverridesParser.create().parse_override(f"key={quoted(value)}")
    read = override.value()
    assert value == ("null" if read is None else str(read))


def test_a_run_is_named_after_what_changes_its_result() -> None:
    assert slug(["experiment=demo", "impl.threads=2", "tracking=off", "name=x"]) == ""
    assert slug(["seed=2", "experiment=demo"]) == "seed-2"
    assert slug(["strategy=tpe", "seed=2"]) == slug(["seed=2", "strategy=tpe"]) == "seed-2_strategy-tpe"


@given(st.lists(st.text(min_size=1, max_size=60).map(lambda text: f"key={text}"), max_size=4))
def test_a_folder_name_is_one_plain_component(overrides: list[str]) -> None:
    name = slug(overrides)
    assert re.fullmatch(r"[A-Za-z0-9._-]*", name)
    assert len(name) <= 110
    assert name not in (".", "..")


def test_values_that_read_alike_do_not_share_a_folder() -> None:
    assert slug(["error.path=a/b.csv"]) != slug(["error.path=a-b.csv"])


def test_a_sweep_may_be_asked_for_anywhere_on_the_line() -> None:
    assert expand(["experiment=demo", "-m", "seed=1,2"]) == ["-m", "experiment=demo", "seed=1,2"]
    assert expand(["seed=1", "--cfg", "job"]) == ["seed=1", "--cfg", "job"]


@pytest.mark.parametrize(
    ("told", "job", "varied"),
    [
        # Hydra writes true as True, and a value that was given first is varied all the same.
        (
            ["loss=relations", "distill.twin=false", "loss=masked_lm,relations"],
            ["distill.twin=False", "loss=relations"],
            ["loss=relations"],
        ),
        (["task.text=[a,b]", "seed=1,2"], ["task.text=[a,b]", "seed=2"], ["seed=2"]),
        (["budget.steps=range(1,3)"], ["budget.steps=1"], ["budget.steps=1"]),
        (["name=mine"], ["name=mine", "train.batch_size=8"], ["train.batch_size=8"]),
    ],
)
def test_what_a_sweep_varies_names_its_runs(
    monkeypatch: pytest.MonkeyPatch, told: list[str], job: list[str], varied: list[str]
) -> None:
    running = SimpleNamespace(mode=RunMode.MULTIRUN, overrides=SimpleNamespace(task=job))
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: running)
    monkeypatch.setattr(sys, "argv", ["bort distill", "-m", "--config-dir=conf", *told])
    assert swept() == varied
    running.mode = RunMode.RUN
    assert swept() == []
