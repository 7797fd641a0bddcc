"""Where a model came from, by the records beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bort.export.card import model_card
from bort.export.lineage import card_facts, lineage, role_of, run_keys
from bort.record import StageDirectory

SCORE = {"mean": 0.74, "low": 0.73, "high": 0.75}


def finished(path: Path, stage: str, result: dict[str, Any], inputs: dict[str, str] | None = None, **settings: Any) -> str:
    record = StageDirectory(path, stage, settings, inputs or {})
    record.begin()
    record.add_seconds(2.0)
    record.finish(result)
    return record.digest


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """The records of a chain, whose search and teacher lie in another run's folder further up."""
    home = tmp_path / "demo"
    branch = home / ".seed=1"
    corpus = finished(home / "corpus", "corpus", {"name": "wiki", "tokens": {"train": 9000}})
    teacher = finished(
        home / "teacher", "teacher",
        {
            "name": "minilm", "architecture": "D6-A12-H384-I1536", "parameters": 22_000_000,
            "identity": {"teacher": "t" * 64, "corpus": "c" * 64},
            "processor_seconds": 5.0,
        },
    )  # fmt: skip
    search = finished(
        home / "search", "search",
        {
            "winner": {"name": "D2-A4-H128-I512", "w": 2.15, "theta": {}},
            "strategy": {"name": "ose"}, "space": {"valid": 32}, "processor_seconds": 185.0,
            "candidates": [{"name": "D2-A4-H128-I512", "w": 2.15}, {"name": "D1-A4-H64-I256", "w": None}],
        },
    )  # fmt: skip
    trained = {"steps": 500, "tokens": 4000, "heldout": {"relation_kl": 0.27}, "processor_seconds": 20.0}
    distill = finished(
        branch / "distill", "distill",
        {"architecture": "D2-A4-H128-I512", **trained, "twin": {**trained, "processor_seconds": 7.0}},
        {"corpus": corpus, "teacher": teacher, "search": search}, loss={"hidden": 1.0, "relations": 1.0, "masked_lm": 0.0},
    )  # fmt: skip
    model = {"metrics": {"accuracy": SCORE}, "seeds": [{"seed": 0}, {"seed": 1}], "cost": {"processor_seconds": 30.0}}
    finished(
        branch / "finetune", "finetune",
        {
            "models": {"student": model, "twin": {**model, "metrics": {"accuracy": {**SCORE, "mean": 0.65}}}},
            "task": {"name": "reviews", "kind": "classification", "examples": {"heldout": 1500}},
            "baseline": {"metrics": {"accuracy": 0.5}},
        },
        {"distill": distill, "task": "d" * 64},
    )  # fmt: skip
    for place in ("distill/student", "distill/twin/student", "finetune/model", "finetune/twin/model"):
        (branch / place).mkdir(parents=True)
    return branch


def test_a_fine_tuned_model_is_followed_back_to_the_search(chain: Path) -> None:
    made = lineage(chain / "finetune" / "model")
    assert next(iter(made)) == "finetune"
    assert set(made) == {"finetune", "distill", "corpus", "teacher", "search"}
    keys = run_keys(chain / "finetune" / "model", made)
    assert list(keys) == ["study", "candidate", "student", "finetuned"]
    assert keys["candidate"] == f"{keys['study']}/D2-A4-H128-I512"
    assert keys["study"].startswith("search-")
    assert keys["finetuned"] == f"{made['finetune'].key}/student"


@pytest.mark.parametrize(
    ("place", "role", "ends"),
    [
        ("distill/student", "student", ["study", "candidate", "student"]),
        ("distill/twin/student", "twin", ["study", "candidate", "student"]),
        ("finetune/twin/model", "twin", ["study", "candidate", "student", "finetuned"]),
    ],
)  # fmt: skip
def test_which_of_its_stage_a_model_is(chain: Path, place: str, role: str, ends: list[str]) -> None:
    made = lineage(chain / place)
    assert role_of(chain / place, made) == role
    assert list(run_keys(chain / place, made)) == ends


def test_a_record_of_another_run_is_no_ancestor(chain: Path) -> None:
    # The same name in the same place, made from other settings since.
    for file in (chain.parent / "search").iterdir():
        file.unlink()
    finished(chain.parent / "search", "search", {"winner": {"name": "D9", "w": 1.0}}, stride=7)
    made = lineage(chain / "finetune" / "model")
    assert "search" not in made
    assert list(run_keys(chain / "finetune" / "model", made)) == ["student", "finetuned"]


def test_a_model_without_records_has_no_lineage(tmp_path: Path) -> None:
    assert lineage(tmp_path) == {}
    assert card_facts(tmp_path, {}) == {}
    (tmp_path / "manifest.json").write_text('{"schema": 1}')
    assert lineage(tmp_path) == {}


def test_the_card_tells_what_the_records_tell(chain: Path) -> None:
    model = chain / "finetune" / "model"
    card = model_card(card_facts(model, lineage(model)))
    for told in (
        "| Teacher | minilm (digest `tttttttttttt`) |",
        "| Corpus | wiki (digest `cccccccccccc`) |",
        "D2-A4-H128-I512: the largest W (2.15) of 1 trained candidates in a space of 32, strategy ose",
        "| Objective | the teacher's hidden states + the teacher's relations |",
        "## Scores on reviews, mean of 2 seeds on 1500 held-out examples",
        "| accuracy | 0.74 | 0.73 – 0.75 | 0.65 | 0.5 |",
        "| finetune | 2 | 60 |",
        "| distill | 2 | 27 |",
    ):
        assert told in card, told


def test_licences_that_were_stated_stand_beside_what_they_are_of(chain: Path) -> None:
    model, licences = chain / "finetune" / "model", {"teacher": "apache-2.0", "corpus": None}
    facts = card_facts(model, lineage(model), licences)
    assert facts["teacher"]["licence"] == "apache-2.0"
    assert "licence" not in facts["corpus"]
    # The twin has no teacher that a licence could be of.
    twin = chain / "finetune" / "twin" / "model"
    assert "teacher" not in card_facts(twin, lineage(twin), licences)


def test_the_twin_owes_nothing_to_the_teacher(chain: Path) -> None:
    model = chain / "finetune" / "twin" / "model"
    facts = card_facts(model, lineage(model))
    assert "teacher" not in facts
    assert facts["distillation"]["objective"] == "masked LM, without the teacher"
    assert facts["task"]["metrics"]["accuracy"]["mean"] == 0.65
    assert set(facts["task"]["baselines"]) == {"student", "majority class"}
