"""The claims of the paper beside what was measured here: confirmed, not confirmed, or which command would tell."""

from __future__ import annotations

from bort.architecture import BORT, BORT_PUBLISHED
from bort.report.html import Cell
from bort.report.reading import Findings, is_number
from bort.report.words import DASH, figure, percent, times

HEAD = ("the paper's claim", "paper", "here", "verdict", "evidence")

#: The paper's baseline for sizes, as printed in the README of github.com/alexa/bort.
_BERT_LARGE, _BERT_LARGE_EMBEDDING = 340e6, 31.8e6
_PAPER_COMMAND = "bort reproduce experiment=paper"

Row = tuple[str, str, str, str, str]


def claims(findings: Findings) -> list[list[Cell]]:
    """Returns a row for each claim: what the paper says, what was found, the verdict and the evidence or the command."""
    rows = [*_sizes(), _speed(findings), _distillation(findings), _correspondence(findings), *_untested()]
    return [[Cell(text) for text in row] for row in rows]


def _sizes() -> list[Row]:
    rows = []
    for words, printed, embedding in (("effective size, embeddings left out", "5.5 %", True), ("net size", "16 %", False)):
        shares = []
        for shape in (BORT_PUBLISHED, BORT):
            total = shape.parameters(pooler=True, head=True)
            inner = (total - shape.embedding_parameters()) / (_BERT_LARGE - _BERT_LARGE_EMBEDDING)
            shares.append(f"{percent(inner if embedding else total / _BERT_LARGE)} for {shape}")
        row = (
            f"Bort's {words}, of BERT-large",
            printed,
            ", ".join(shares),
            f"confirmed for {BORT_PUBLISHED}, not for the released shape",
        )
        rows.append((*row, "counted; bort size bort"))
    return rows


def _speed(findings: Findings) -> Row:
    claim = "Bort is faster than BERT-large on a CPU"
    ratio = next(
        (
            one
            for one in findings.benchmark.get("ratios") or []
            if str(one.get("model", "")).startswith("bort")
            and one.get("over_model") == "bert-large"
            and one.get("backend") == one.get("over_backend")
        ),
        None,
    )
    if ratio is None or not is_number(ratio.get("low")):
        return claim, "7.9× to 20×", DASH, "not measured here", "bort benchmark with models bort and bert-large"
    verdict = "confirmed" if float(ratio["low"]) >= 7.9 else "not confirmed"
    where = f"{ratio['model']}, {ratio['backend']}, batch {ratio.get('batch')}, {ratio.get('sequence_length')} tokens"
    return claim, "7.9× to 20×", f"{times(ratio['ratio'])} ({figure(ratio['low'])} to {figure(ratio['high'])})", verdict, where


def _distillation(findings: Findings) -> Row:
    claim = "Distillation gives a better model than masked-LM training alone, at equal steps"
    metric = findings.metrics[0] if findings.metrics else ""
    student, twin = (findings.score(role, metric) for role in ("student", "twin")) if metric else (None, None)
    if student is None or twin is None:
        return claim, "higher accuracy", DASH, "not measured here", "bort finetune with models student and twin"
    verdict = "not decided: the intervals overlap"
    if student.bounds and twin.bounds and student.bounds[0] > twin.bounds[1]:
        verdict = "confirmed at this size and budget"
    elif student.bounds and twin.bounds and student.bounds[1] < twin.bounds[0]:
        verdict = "not confirmed at this size and budget"
    here = f"{100 * student.mean:.1f} against {100 * twin.mean:.1f} points"
    if "twin" in findings.unlearned:
        here += ", where the twin did not learn the task"
    return (
        claim,
        "higher accuracy",
        here,
        verdict,
        f"{metric.replace('_', ' ')} on {findings.task_name}, over {student.interval or 'one seed'}",
    )


def _correspondence(findings: Findings) -> Row:
    claim = "A few steps of training rank architectures as more steps do"
    correlation = findings.search.get("correlation") or {}
    tau, between = correlation.get("kendall_tau"), correlation.get("between") or []
    if not is_number(tau) or len(between) != 2 or between[0] == between[1]:
        return claim, "assumed", DASH, "not measured here", "bort search with error.rungs=2 or more"
    verdict = "holds well" if tau >= 0.8 else "holds roughly" if tau >= 0.5 else "does not hold"
    words = f"rank correlation τ = {tau:.2f} between {between[0]:,} and {between[1]:,} steps"
    return claim, "assumed", words, f"{verdict} at this size", f"{correlation.get('n', DASH)} candidates trained to the end"


def _untested() -> list[Row]:
    return [
        (
            "Fine-tuned, Bort beats BERT-large on GLUE, SuperGLUE and RACE",
            "by 0.3 % to 31 %",
            DASH,
            "not tested here",
            _PAPER_COMMAND,
        ),
        ("Pre-training Bort takes 288 GPU-hours", "288 h", DASH, "not tested here", _PAPER_COMMAND),
        (
            "Agora makes fine-tuning work where plain fine-tuning fails",
            "used for every score",
            DASH,
            "not tested here",
            "Agora took no part",
        ),
    ]
