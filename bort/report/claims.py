"""The claims of the paper beside what was measured: confirmed, not confirmed, not testable, or which command would tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bort.architecture import BORT, BORT_PUBLISHED, Architecture
from bort.measure.published import (
    BERT_LARGE_EMBEDDING,
    BERT_LARGE_PARAMETERS,
    CLAIMS,
    GLUE,
    GPU_HOURS,
    SUPER_GLUE,
    Claim,
    PublishedScores,
)
from bort.report.evidence import Evidence
from bort.report.formatting import DASH, figure, percent
from bort.report.reading import TASKS, is_number

#: The verdicts; words may follow that say for what.
CONFIRMED, NOT_CONFIRMED, NOT_TESTABLE, OPEN = "confirmed", "not confirmed", "not testable here", "not measured yet"
#: Rank correlation from which a cheap order counts as the full one's.
_RANKS_WELL = 0.8
_PAPER_RUN = "bort reproduce experiment=paper"
#: Both shapes that the paper gives numbers of, by their names in a benchmark.
_SHAPES = {"bort": BORT, "bort-published": BORT_PUBLISHED}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the ledger.

    Args:
        claim: What the paper says.
        here: What was found; a dash where nothing was.
        verdict: One of the verdicts, with words after it that say for what.
        evidence: The file, or the part of the page, that it stands on; empty where nothing was measured.
        command: What measures it.
    """

    claim: Claim
    here: str
    verdict: str
    evidence: str
    command: str


def claims(evidence: Sequence[Evidence]) -> list[Line]:
    """Returns a line for each claim, filled from results alone.

    Args:
        evidence: Results or records. Where several of one kind speak of the same claim, the first does.
    """
    judges: tuple[Callable[[Sequence[Evidence]], list[Line]], ...] = (
        _sizes,
        _speeds,
        _distillation,
        _correspondence,
        _stride,
        _scores,
        _agora,
        _hours,
    )
    return [line for judge in judges for line in judge(evidence)]


def _of(evidence: Sequence[Evidence], *stages: str) -> list[Evidence]:
    return [piece for stage in stages for piece in evidence if piece.stage == stage]


def _line(name: str, here: str, verdict: str, piece: Evidence | None, command: str) -> Line:
    return Line(CLAIMS[name], here, verdict, piece.source if piece else "", (piece.command if piece else "") or command)


def _open(name: str, command: str) -> Line:
    return Line(CLAIMS[name], DASH, OPEN, "", command)


def _sizes(_: Sequence[Evidence]) -> list[Line]:
    """Sizes need no measurement: they are counted."""
    lines = []
    for name, without in (("effective size", BERT_LARGE_EMBEDDING), ("net size", 0.0)):
        shares = {}
        for shape in (BORT_PUBLISHED, BORT):
            own = shape.embedding_parameters() if without else 0
            shares[shape] = (shape.parameters(pooler=True, head=True) - own) / (BERT_LARGE_PARAMETERS - without)
        here = ", ".join(f"{percent(share)} for {_shape(shape)}" for shape, share in shares.items())
        verdict = f"{CONFIRMED} for {_shape(BORT_PUBLISHED)} alone, which is not the released shape"
        lines.append(Line(CLAIMS[name], here, verdict, "counted", "bort size bort bort-published bert-large"))
    return lines


def _shape(shape: Architecture) -> str:
    return f"⟨{shape.depth}, {shape.heads}, {shape.hidden}, {shape.intermediate}⟩"


def _speeds(evidence: Sequence[Evidence]) -> list[Line]:
    lines = []
    for name, baseline in (("speed", "bert-large"), ("speed over BERT-base", "bert-base"), ("speed over BERT-large", "bert-large")):
        command = "bort benchmark latency"
        pieces = [piece for piece in _of(evidence, "benchmark") if _faster(piece.result, baseline)]
        lines.append(_speed(name, baseline, pieces[0], command) if pieces else _open(name, command))
    return lines


def _speed(name: str, baseline: str, piece: Evidence, command: str) -> Line:
    found = _faster(piece.result, baseline)
    target = float(CLAIMS[name].value or 0.0)
    met = {shape: ratio.get("low", ratio["ratio"]) >= target for shape, ratio in found.items()}
    words = [f"{shape} {_times(ratio)}" for shape, ratio in found.items()]
    one = next(iter(found.values()))
    where = f"{one['backend']}, batch {one['batch']}, {one['sequence_length']} tokens"
    busy = "; the machine was busy" if _busy(piece.result, baseline) else ""
    if all(met.values()) or not any(met.values()):
        verdict = CONFIRMED if all(met.values()) else NOT_CONFIRMED
    else:
        verdict = f"{CONFIRMED} for {', '.join(shape for shape, yes in met.items() if yes)} alone"
    # What the paper leaves open: none of its models were quantised.
    quantised = [f"{shape} {_times(ratio)}" for shape, ratio in _faster(piece.result, baseline, "int8").items()]
    also = f"; in int8 {', '.join(quantised)}" if quantised else ""
    return _line(name, f"{', '.join(words)} ({where}{busy}){also}", verdict, piece, command)


def _busy(result: Record, baseline: str) -> bool:
    """Returns whether other processes took much of the machine while Bort or the baseline was measured."""
    compared = {*_SHAPES, baseline}
    return any(row.get("busy", result.get("busy")) for row in result.get("rows", ()) if row["model"] in compared)


def _faster(result: Record, baseline: str, backend: str = "eager") -> dict[str, Record]:
    """Returns how much faster each of Bort's shapes is than an eager baseline, nearest to one sequence of 128 tokens."""
    found = {}
    for name, shape in _SHAPES.items():
        ratios = [
            ratio
            for ratio in result.get("ratios") or []
            if (ratio.get("model"), ratio.get("over_model")) == (name, baseline)
            and (ratio.get("backend"), ratio.get("over_backend")) == (backend, "eager")
            and is_number(ratio.get("ratio"))
        ]
        if ratios := ratios or (_from_medians(result, name, baseline) if backend == "eager" else []):
            found[_shape(shape)] = min(ratios, key=lambda one: (one["batch"], abs(one["sequence_length"] - 128)))
    return found


def _from_medians(result: Record, name: str, baseline: str) -> list[Record]:
    """Returns the ratios of the medians where the two were measured turn by turn, but neither is the other's reference."""
    cells: dict[tuple[int, int], dict[str, float]] = {}
    for row in result.get("rows") or []:
        if row.get("backend") == "eager" and row.get("model") in (name, baseline) and is_number(row.get("p50_ms")):
            cells.setdefault((row["batch"], row["sequence_length"]), {})[row["model"]] = float(row["p50_ms"])
    return [
        {"ratio": both[baseline] / both[name], "backend": "eager", "batch": batch, "sequence_length": length}
        for (batch, length), both in cells.items()
        if len(both) == 2
    ]


def _times(ratio: Record) -> str:
    bounds = f" [{figure(ratio['low'])}, {figure(ratio['high'])}]" if is_number(ratio.get("low")) else ""
    return f"{figure(ratio['ratio'])}×{bounds}"


def _distillation(evidence: Sequence[Evidence]) -> list[Line]:
    command = "bort benchmark objectives experiment=kd_vs_mlm"
    for piece in _of(evidence, "benchmark_objectives"):
        rows = {str(row["objective"]): row for row in piece.result.get("rows") or [] if "mlm_accuracy" in (row.get("end") or {})}
        alone, others = rows.get("masked_lm"), [row for name, row in rows.items() if "soft_targets" in name]
        if alone and others:
            return [_after_steps(alone, others, piece, command), _at_cost(alone, others, piece, command)]
    for piece in _of(evidence, "finetune"):
        if twins := _beside_twin(piece):
            return [twins, _open("distillation speed", command)]
    return [_open("distillation", command), _open("distillation speed", command)]


def _beside_twin(piece: Evidence) -> Line | None:
    """Returns what a task's score says where masked-LM accuracies were not compared: student against twin, of the same shape."""
    models = piece.result.get("models") or {}
    student, twin = (_first_metric(models.get(role) or {}) for role in ("student", "twin"))
    if not student or not twin:
        return None
    metric, name = student[0], _task(piece.result)
    constant = ((piece.result.get("baseline") or {}).get("metrics") or {}).get(metric)
    flat = ", which did not learn the task" if is_number(constant) and _low(twin[1]) <= constant else ""
    here = f"{metric} on {name}: student {_interval(student[1])}, its twin without a teacher {_interval(twin[1])}{flat}"
    verdict = f"{_ahead(twin[1], [student[1]])}, by a task's score"
    return _line("distillation", here, verdict, piece, "bort finetune finetune.models=[student,twin]")


def _after_steps(alone: Record, others: Sequence[Record], piece: Evidence, command: str) -> Line:
    own = alone["end"]["mlm_accuracy"]
    found = {str(row["name"]): row["end"]["mlm_accuracy"] for row in others}
    words = ", ".join(f"{name} {_interval(value)}" for name, value in found.items())
    here = f"masked LM {_interval(own)}; {words}; after {alone['steps']:,} steps"
    return _line("distillation", here, _ahead(own, list(found.values())), piece, command)


def _at_cost(alone: Record, others: Sequence[Record], piece: Evidence, command: str) -> Line:
    own = alone["equal_cost"]["mlm_accuracy"]
    found = {str(row["name"]): (row.get("equal_cost") or {}).get("mlm_accuracy") for row in others}
    charged = [row["name"] for row in others if (row.get("equal_cost_with_teacher") or {}).get("mlm_accuracy")]
    words = ", ".join(f"{name} {_interval(value) if value else 'nothing yet'}" for name, value in found.items())
    teacher = "" if len(charged) == len(others) else "; the teacher's pass alone takes longer"
    here = f"masked LM {_interval(own)}; {words}; at equal processor time{teacher}"
    return _line("distillation speed", here, _ahead(own, list(found.values())), piece, command)


def _ahead(own: Record, others: Sequence[Record | None]) -> str:
    """Returns the verdict on whether any of the others is clearly ahead."""
    if any(other and _low(other) > _high(own) for other in others):
        return f"{CONFIRMED} at this size"
    behind = all(not other or _high(other) < _low(own) for other in others)
    return f"{NOT_CONFIRMED} at this size" + ("" if behind else ", the intervals overlap")


def _low(value: Record) -> float:
    return float(value["mean"] if value.get("low") is None else value["low"])


def _high(value: Record) -> float:
    return float(value["mean"] if value.get("high") is None else value["high"])


def _interval(value: Record) -> str:
    bounds = f" [{value['low']:.3f}, {value['high']:.3f}]" if is_number(value.get("low")) else ""
    return f"{value['mean']:.3f}{bounds}"


def _correspondence(evidence: Sequence[Evidence]) -> list[Line]:
    command = "bort benchmark search"
    for piece in _of(evidence, "benchmark_search"):
        bench = piece.result.get("benchmark") or {}
        taus = [row for row in bench.get("kendall_tau") or [] if is_number(row.get("value"))]
        if taus:
            last = (bench.get("rungs") or [None])[-1]
            words = [f"{row['value']:.2f} after {row['steps']:,}" for row in (taus[0], taus[len(taus) // 2], taus[-1])]
            here = f"rank correlation τ with {last:,} steps: {', '.join(words)}, {bench['candidates']:,} shapes"
            return [_ranked(here, float(taus[len(taus) // 2]["value"]), piece, command)]
    for piece in _of(evidence, "search"):
        correlation = piece.result.get("correlation") or {}
        tau, between = correlation.get("kendall_tau"), correlation.get("between") or []
        if is_number(tau) and len(between) == 2 and between[0] != between[1]:
            here = f"rank correlation τ = {tau:.2f} between {between[0]:,} and {between[1]:,} steps, {correlation.get('n')} shapes"
            return [_ranked(here, float(tau), piece, command)]
    return [_open("correspondence", command)]


def _ranked(here: str, tau: float, piece: Evidence, command: str) -> Line:
    verdict = f"{CONFIRMED if tau >= _RANKS_WELL else NOT_CONFIRMED} at this size (τ ≥ {_RANKS_WELL} asked)"
    return _line("correspondence", here, verdict, piece, command)


def _stride(evidence: Sequence[Evidence]) -> list[Line]:
    command = "bort benchmark search"
    for piece in _of(evidence, "benchmark_search"):
        rows = [row for row in piece.result.get("rows") or [] if row.get("strategy") == "ose" and row.get("table") == "drawn"]
        row = next((row for row in rows if row["budget"] >= 0.1), None)
        if row is not None:
            here = (
                f"with {percent(row['budget'], 0)} of the steps {percent(row['regret']['value'])} of W lost on average, "
                f"{percent(row['worst'])} at worst, {row['replays']:,} replays"
            )
            return [_line("stride", here, f"{NOT_TESTABLE}: any answer keeps the bound for ε ≥ 2", piece, command)]
    return [_open("stride", command)]


def _scores(evidence: Sequence[Evidence]) -> list[Line]:
    """The scores are out of reach: what the published tables say of them is counted, and what a small run kept is told."""
    ahead, behind = _published_tasks()
    here = f"by the published tables ahead in every figure on {ahead} of 21 tasks, behind in one or more on {', '.join(behind)}"
    for piece in _of(evidence, "finetune"):
        kept = _kept(piece.result)
        if kept:
            return [_line("scores", f"{here}; {kept}", NOT_TESTABLE, piece, _PAPER_RUN)]
    return [Line(CLAIMS["scores"], here, NOT_TESTABLE, "", _PAPER_RUN)]


def _published_tasks() -> tuple[int, list[str]]:
    ahead, behind = 0, []
    for table in (GLUE, SUPER_GLUE):
        bort, large = (_named(table, name).tasks for name in ("Bort", "BERT-large"))
        for task, figures in bort.items():
            better = all(own > other for own, other in zip(figures, large[task], strict=True))
            ahead += better
            behind += [] if better else [TASKS.get(task, task)]
    return ahead, behind


def _named(table: Sequence[PublishedScores], name: str) -> PublishedScores:
    return next(row for row in table if row.model == name)


def _kept(result: Record) -> str:
    """Returns what a student keeps of its own teacher's score, in words; empty where either is missing."""
    models = result.get("models") or {}
    student, teacher = (_first_metric(models.get(role) or {}) for role in ("student", "teacher"))
    if not student or not teacher or student[0] != teacher[0]:
        return ""
    words = f"{_interval(student[1])} {student[0]} on {_task(result)}"
    return f"here a student has {words}, its own teacher {_interval(teacher[1])}"


def _task(result: Record) -> str:
    return str((result.get("task") or {}).get("name", "a task")).replace("_", " ").title()


def _first_metric(model: Record) -> tuple[str, Record] | None:
    return next(((name, value) for name, value in (model.get("metrics") or {}).items() if is_number(value.get("mean"))), None)


def _agora(evidence: Sequence[Evidence]) -> list[Line]:
    command = "bort benchmark agora"
    for piece in _of(evidence, "benchmark_agora"):
        overall = piece.result.get("overall") or {}
        if "agora" not in overall:
            continue
        found, settings = overall["agora"], piece.result.get("settings") or []
        others = [f"{arm} {_points(value)}" for arm, value in overall.items() if arm != "agora"]
        here = f"{_points(found)} points over plain fine-tuning at equal steps, on the mean of {len(settings)} settings"
        here += f" ({', '.join(others)})" if others else ""
        sure = is_number(found.get("low")) and found["low"] > 0
        return [_line("agora", here, f"{CONFIRMED if sure else NOT_CONFIRMED} at this size", piece, command)]
    return [_open("agora", command)]


def _points(value: Record) -> str:
    bounds = f" [{value['low']:+.1f}, {value['high']:+.1f}]" if is_number(value.get("low")) else ""
    return f"{value['mean']:+.1f}{bounds}".replace("-", "−")


def _hours(evidence: Sequence[Evidence]) -> list[Line]:
    command = "bort benchmark distill impl.device=cuda impl.precision=bf16 speed.teacher=24-16-1024-4096 speed.student=4-8-1024-768"
    lines = [Line(CLAIMS["pre-training"], DASH, NOT_TESTABLE, "", command)]
    for piece in _of(evidence, "benchmark_distill"):
        rows = [row for row in piece.result.get("rows") or [] if is_number(row.get("hours_for_paper"))]
        if rows and piece.result.get("student") in (str(BORT), str(BORT_PUBLISHED)) and piece.result.get("device") != "cpu":
            best = min(rows, key=lambda row: float(row["hours_for_paper"]))
            device = piece.machine.get("accelerator") or piece.result["device"]
            hours = figure(best["hours_for_paper"])
            here = f"{hours} hours of {device} by the speed of the {best['variant']} loop, for the paper's tokens"
            lines = [_line("pre-training", here, f"{NOT_TESTABLE}: another accelerator, and extrapolated", piece, command)]
            break
    for other in ("BERT-large", "RoBERTa-large"):
        claim = CLAIMS[f"pre-training of {other}"]
        share = 100 * GPU_HOURS["Bort"] / GPU_HOURS[other]
        near = abs(share - float(claim.value or 0.0)) <= 0.1
        here = f"{share:.1f} % by the paper's own hours, {GPU_HOURS['Bort']} of {GPU_HOURS[other]:,}"
        lines.append(Line(claim, here, CONFIRMED if near else NOT_CONFIRMED, "counted", ""))
    return lines
