"""The ledger of the claims: filled from results only, with the verdict that the figures give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bort.errors import BortError, RecordError
from bort.files import write_json
from bort.measure.published import CLAIMS
from bort.report.claims import CONFIRMED, NOT_CONFIRMED, NOT_TESTABLE, OPEN, Line, claims
from bort.report.claims_table import insert, markdown
from bort.report.evidence import Evidence, read_evidence, write_record
from tests.report.example import example_result

ROOT = Path(__file__).resolve().parents[2]


def ledger(*evidence: Evidence) -> dict[str, Line]:
    return {line.claim.name: line for line in claims(evidence)}


def around(mean: float, half: float | None = 0.01) -> dict[str, float | None]:
    return {"mean": mean, "low": None if half is None else mean - half, "high": None if half is None else mean + half}


def latency(model: str, over: str, ratio: float, half: float = 0.5, **changes: Any) -> dict[str, Any]:
    cell = {"backend": "eager", "over_backend": "eager", "batch": 1, "sequence_length": 128, **changes}
    return {"model": model, "over_model": over, **cell, "ratio": ratio, "low": ratio - half, "high": ratio + half}


def objectives(alone: float, distilled: float, at_cost: float | None) -> Evidence:
    rows = [
        {"objective": name, "name": name, "steps": 100, "end": {"mlm_accuracy": around(mean)}, **costs}
        for name, mean, costs in (
            ("masked_lm", alone, {"equal_cost": {"mlm_accuracy": around(alone)}}),
            (
                "soft_targets@2",
                distilled,
                {"equal_cost": {"mlm_accuracy": around(at_cost) if at_cost else None}, "equal_cost_with_teacher": {}},
            ),
        )
    ]
    return Evidence("benchmark_objectives", {"rows": rows}, "objectives.json", "bort benchmark objectives")


def test_without_results_every_line_says_what_would_fill_it() -> None:
    found = ledger()
    assert list(found) == list(CLAIMS)
    for line in found.values():
        assert line.verdict.startswith((OPEN, NOT_TESTABLE, CONFIRMED, NOT_CONFIRMED))
        if not line.evidence:
            assert line.command.startswith("bort "), line
    assert [name for name, line in found.items() if line.evidence] == [
        "effective size",
        "net size",
        "pre-training of BERT-large",
        "pre-training of RoBERTa-large",
    ]
    assert {line.verdict for line in found.values() if line.here == "–"} == {OPEN, NOT_TESTABLE}


def test_sizes_are_those_of_one_shape_alone() -> None:
    found = ledger()
    assert found["effective size"].here == "5.5 % for ⟨4, 8, 768, 1024⟩, 8.2 % for ⟨4, 8, 1024, 768⟩"
    assert found["net size"].here == "16.5 % for ⟨4, 8, 768, 1024⟩, 22.7 % for ⟨4, 8, 1024, 768⟩"
    assert found["pre-training of BERT-large"].verdict == NOT_CONFIRMED
    assert found["pre-training of RoBERTa-large"].verdict == CONFIRMED


@pytest.mark.parametrize(
    ("released", "published", "verdict"),
    [
        (21.0, 22.0, CONFIRMED),
        (12.5, 19.0, NOT_CONFIRMED),
        (20.3, 18.0, NOT_CONFIRMED),
        (12.5, 21.0, f"{CONFIRMED} for ⟨4, 8, 768, 1024⟩ alone"),
    ],
)
def test_speed_counts_where_its_whole_interval_does(released: float, published: float, verdict: str) -> None:
    ratios = [
        latency("bort", "bert-large", 99.0, sequence_length=512),
        latency("bort", "bert-large", 99.0, batch=8),
        latency("bort", "bert-large", 99.0, backend="int8"),
        latency("bort", "bert-large", released),
        latency("bort-published", "bert-large", published),
    ]
    rows = [
        {"model": name, "backend": "eager", "batch": 1, "sequence_length": 128, "p50_ms": ms}
        for name, ms in (("bort", 10.0), ("bert-base", 35.0))
    ]
    found = ledger(Evidence("benchmark", {"ratios": ratios, "rows": rows, "busy": True}, "latency.json"))
    assert found["speed over BERT-large"].verdict == verdict
    assert f"{released}× [{released - 0.5}, {released + 0.5}]" in found["speed over BERT-large"].here
    assert "the machine was busy" in found["speed over BERT-large"].here
    assert "; in int8 ⟨4, 8, 1024, 768⟩ 99.0× [98.5, 99.5]" in found["speed over BERT-large"].here
    assert found["speed"].verdict == CONFIRMED
    # No ratio to this baseline was taken, but both stood turn by turn in the same rounds.
    assert "3.50×" in found["speed over BERT-base"].here
    assert found["speed over BERT-base"].verdict == NOT_CONFIRMED


def test_distillation_is_confirmed_only_where_intervals_part() -> None:
    assert ledger(objectives(0.1, 0.2, 0.15))["distillation"].verdict == f"{CONFIRMED} at this size"
    assert ledger(objectives(0.1, 0.2, 0.15))["distillation speed"].verdict == f"{CONFIRMED} at this size"
    assert ledger(objectives(0.1, 0.105, None))["distillation"].verdict == f"{NOT_CONFIRMED} at this size, the intervals overlap"
    behind = ledger(objectives(0.2, 0.1, None))
    assert {behind[name].verdict for name in ("distillation", "distillation speed")} == {f"{NOT_CONFIRMED} at this size"}
    assert "nothing yet" in behind["distillation speed"].here


def test_a_tasks_score_speaks_of_distillation_where_nothing_else_does() -> None:
    models = example_result()["finetune"]["models"]

    def told(**changes: Any) -> Line:
        result = {"models": {**models, **changes}, "task": {"name": "some_task"}, "baseline": {"metrics": {"accuracy": 0.5}}}
        return ledger(Evidence("finetune", result, "#task"))["distillation"]

    assert told().verdict == f"{CONFIRMED} at this size, by a task's score"
    assert "accuracy on Some Task: student 0.7" in told().here
    assert told(student=models["twin"], twin=models["student"]).verdict.startswith(f"{NOT_CONFIRMED} at this size, by")
    assert "the intervals overlap" in told(twin=models["student"]).verdict
    low = {"metrics": {"accuracy": around(0.505)}}
    assert "its twin without a teacher 0.505 [0.495, 0.515], which did not learn the task" in told(twin=low).here
    assert told(twin=None).verdict == OPEN
    # A comparison of masked-LM accuracies has precedence.
    both = ledger(Evidence("finetune", {"models": models}), objectives(0.2, 0.1, None))
    assert both["distillation"].evidence == "objectives.json"


def test_agora_is_confirmed_where_its_gain_is_sure() -> None:
    settings = [{"task": "cola"}, {"task": "rte"}]
    sure = ledger(
        Evidence("benchmark_agora", {"overall": {"agora": around(3.0, 1.0), "random": around(1.0)}, "settings": settings})
    )
    assert sure["agora"].verdict == f"{CONFIRMED} at this size"
    assert "+3.0 [+2.0, +4.0] points" in sure["agora"].here
    unsure = ledger(Evidence("benchmark_agora", {"overall": {"agora": around(0.5, 1.0)}, "settings": settings}))
    assert unsure["agora"].verdict == f"{NOT_CONFIRMED} at this size"
    assert "+0.5 [−0.5, +1.5]" in unsure["agora"].here


def test_hours_are_told_of_the_papers_shape_on_an_accelerator_alone() -> None:
    def measured(student: str, device: str) -> Line:
        rows = [{"variant": "usual", "hours_for_paper": 900.0}, {"variant": "compiled", "hours_for_paper": 120.0}]
        result = {"rows": rows, "student": student, "device": device}
        return ledger(Evidence("benchmark_distill", result, "speed.json", machine={"accelerator": "a GPU"}))["pre-training"]

    told = measured("D4-A8-H1024-I768", "cuda")
    assert told.here.startswith("120 hours of a GPU by the speed of the compiled loop")
    assert told.verdict.startswith(NOT_TESTABLE)
    assert measured("D4-A8-H1024-I768", "cpu").here == measured("D1-A6-H384-I288", "cuda").here == "–"


def test_a_search_and_a_task_are_evidence(tmp_path: Path) -> None:
    example = example_result()
    found = ledger(*(Evidence(stage, example[stage], f"#{stage}") for stage in ("search", "finetune")))
    assert found["correspondence"].verdict.startswith(f"{CONFIRMED} at this size")
    assert "τ = 0.81 between 40 and 160 steps" in found["correspondence"].here
    assert "its own teacher" in found["scores"].here
    assert found["scores"].verdict == NOT_TESTABLE
    # Ranks of one rung with itself say nothing.
    example["search"]["correlation"]["between"] = [160, 160]
    assert ledger(Evidence("search", example["search"]))["correspondence"].verdict == OPEN


def stage_folder(folder: Path, stage: str, result: dict[str, Any], **manifest: Any) -> Path:
    whole = {
        "schema": 1,
        "stage": stage,
        "state": "done",
        "settings": {"seed": 3},
        "finished": 1.8e9,
        "command": "bort it",
        **manifest,
    }
    write_json(folder / "manifest.json", whole)
    write_json(folder / "result.json", {"schema": 1, "stage": stage, **result})
    return folder


def test_a_record_keeps_figures_and_circumstances_and_no_bulk(tmp_path: Path) -> None:
    example = example_result()
    machine = {"processor": "a processor", "versions": {"torch": "2"}}
    for stage in ("search", "finetune", "benchmark"):
        folder = stage_folder(tmp_path / stage, stage, example[stage], machine=machine)
        write_record(tmp_path / "records" / f"{stage}.json", folder)
    kept = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "records").iterdir()}
    assert {key: kept["search"][key] for key in ("command", "date", "seeds", "versions")} == {
        "command": "bort it",
        "date": "2027-01-15",
        "seeds": [3],
        "versions": {"torch": "2"},
    }
    assert kept["search"]["machine"] == {"processor": "a processor"}
    assert kept["benchmark"]["machine"]["processor"] == example["benchmark"]["environment"]["processor"]
    whole = json.dumps(kept)
    assert not any(f'"{bulk}"' in whole for bulk in ("curve", "samples_ms", "candidates", "predictions", "trials"))
    assert len(whole) < 40_000
    # What was kept says the same as what it was kept of.
    from_records = claims(read_evidence([tmp_path / "records"]))
    from_results = claims(read_evidence([tmp_path / stage for stage in sorted(kept)]))
    assert [(line.here, line.verdict) for line in from_records] == [(line.here, line.verdict) for line in from_results]


def test_what_is_no_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BortError, match="does not exist"):
        read_evidence([tmp_path / "nothing"])
    with pytest.raises(BortError, match="neither a record nor a result"):
        read_evidence([tmp_path])
    write_json(tmp_path / "other.json", {"figures": {}})
    with pytest.raises(RecordError, match=r"other\.json is neither a record nor the result"):
        read_evidence([tmp_path / "other.json"])
    write_json(tmp_path / "new.json", {"schema": 99, "stage": "search", "figures": {}})
    with pytest.raises(RecordError, match=r"new\.json has schema 99, written by a newer version"):
        read_evidence([tmp_path])
    with pytest.raises(RecordError, match="is not finished"):
        write_record(tmp_path / "r.json", stage_folder(tmp_path / "half", "search", {}, state="running"))
    with pytest.raises(RecordError, match="corpus is none of them"):
        write_record(tmp_path / "r.json", stage_folder(tmp_path / "corpus", "corpus", {}))
    assert not (tmp_path / "r.json").exists()


def test_the_ledger_goes_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- ledger: written by `bort claims` -->\nold\n<!-- end of the ledger -->\nafter\n", encoding="utf-8")
    lines = claims([objectives(0.1, 0.2, None)])
    text = insert(page, markdown(lines, tmp_path / "docs"))
    assert text.startswith("before\n<!-- ledger")
    assert text.endswith("|\n<!-- end of the ledger -->\nafter\n")
    assert "\nold\n" not in text
    assert len([row for row in text.splitlines() if row.startswith("|")]) == len(CLAIMS) + 2
    assert all(row.replace("\\|", "").count("|") == 5 for row in text.splitlines() if row.startswith("|"))
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(RecordError, match="has no place for the ledger"):
        insert(page, "")


def test_the_readme_shows_what_the_records_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = claims(read_evidence([Path("docs/measurements")]))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert insert(ROOT / "README.md", markdown(lines)) == readme, "bort claims --into README.md brings it up to date"
