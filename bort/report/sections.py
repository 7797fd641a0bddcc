"""The sections of the page, each nothing where the result has nothing for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bort.measure.published import GLUE, GLUE_TASKS, SUPER_GLUE, SUPER_GLUE_TASKS
from bort.report.agora import agora
from bort.report.baselines import baseline_table
from bort.report.drawing import Drawing
from bort.report.formatting import DASH, big, duration, percent, score, size
from bort.report.formatting import figure as digits
from bort.report.html import Cell, figure, note, paragraph, section, table
from bort.report.reading import HELDOUT, TITLES, Findings, Record, is_number
from bort.report.student_figures import ORDER
from bort.search.w import ranked, share_saved

#: Our names of tasks that the leaderboards call otherwise.
_NAMES = {"mnli": "mnli_matched"}

_CAPTION = (
    "Published test scores on {name}, in points, beside ours, which are held-out examples of the training or development set: "
    "they can be compared roughly at best"
)


def published(findings: Findings) -> str:
    """Returns the table of published models on the task at hand, with ours in it; empty for a task without any."""
    suite, name = findings.suite_and_task
    name = _NAMES.get(name, name)
    tasks, models = (GLUE_TASKS, GLUE) if suite == "glue" else (SUPER_GLUE_TASKS, SUPER_GLUE)
    if not suite or name not in tasks:
        return ""
    metrics = tasks[name]
    cells = [
        [Cell(model.model), *(Cell(f"{value:.1f}", value) for value in model.tasks[name]), Cell(f"{model.source}, {model.trust}")]
        for model in models
    ]
    for role in ORDER:
        scores = [findings.score(role, metric) for metric in metrics]
        if any(scores):
            own = [Cell(f"{100 * score.mean:.1f}", 100 * score.mean) if score else Cell(DASH) for score in scores]
            cells.append([Cell(f"ours: {TITLES[role]}", strong=role == "student"), *own, Cell("this run")])
    head = ["model", *(metric.replace("_", " ") for metric in metrics), "source, and how it came here"]
    return table(_CAPTION.format(name=findings.task_name), head, cells, kind="words")


Drawings = Mapping[str, Drawing]


def search(findings: Findings, drawn: Drawings) -> str:
    """The search: what won, why, and every candidate."""
    return section(
        "search",
        "The search",
        [
            paragraph(_asked(findings)),
            paragraph(_why_words(findings)),
            figure(drawn.get("why")),
            figure(drawn.get("front")),
            figure(drawn.get("rungs")),
            figure(drawn.get("cost")),
            figure(drawn.get("sensitivity")),
            _candidates(findings),
        ],
    )


def distillation(findings: Findings, drawn: Drawings) -> str:
    """Student and twin on held-out text."""
    roles = [role for role in ("student", "twin") if role in findings.distilled]
    rows = []
    for name, (words, more) in HELDOUT.items():
        values = {role: findings.heldout(role).get(name) for role in roles}
        if all(value is None for value in values.values()):
            continue
        best = (max if more else min)((value for value in values.values() if value is not None), default=None)
        cells = [
            Cell(digits(value), value, strong=None not in values.values() and len(roles) > 1 and value == best)
            for value in values.values()
        ]
        rows.append([Cell(words), Cell("more" if more else "less"), *cells])
    costs = [
        [Cell(words), Cell(DASH), *(_cost_cell(findings.distilled[role].get(key), form) for role in roles)]
        for key, words, form in (
            ("steps", "training steps", lambda value: f"{value:,}"),
            ("tokens", "tokens read", big),
            ("processor_seconds", "processor time", duration),
        )
        if any(is_number(findings.distilled[role].get(key)) for role in roles)
    ]
    student = findings.distilled.get("student", {})
    words = (
        f"The student {student['architecture']} was trained for {student.get('steps', 0):,} steps on what the teacher makes of the "
        "text; its twin has the same shape, the same text and as many steps, but no teacher."
        if "twin" in roles and student.get("architecture")
        else ""
    )
    return section(
        "distillation",
        "The student",
        [
            paragraph(words),
            figure(drawn.get("curves")),
            table(
                "Figures on held-out text, and what they cost",
                ["figure", "better is", *(TITLES[role] for role in roles)],
                rows + costs,
                sort=False,
            ),
        ],
    )


def task(findings: Findings, drawn: Drawings) -> str:
    """Task scores with intervals."""
    rows = []
    for role in ORDER:
        scores = [findings.score(role, metric) for metric in findings.metrics]
        if any(found is not None for found in scores):
            cells = []
            for found in scores:
                bounds = found.bounds if found else None
                cells.append(Cell(score(found.mean, found.metric), found.mean) if found else Cell(DASH))
                cells.append(Cell(f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}", bounds[0]) if bounds else Cell(DASH))
            parameters = findings.tuned[role].get("parameters")
            rows.append([Cell(TITLES[role], strong=role == "student"), Cell(big(parameters), parameters), *cells])
    if rows:
        constants = [(metric, findings.majority(metric)) for metric in findings.metrics]
        cells = [cell for metric, value in constants for cell in (Cell(score(value, metric), value), Cell(DASH))]
        rows.append([Cell(TITLES["majority"]), Cell(DASH), *cells])
    head = ["model", "parameters", *(name for metric in findings.metrics for name in (metric.replace("_", " "), "95 % interval"))]
    return section(
        "task",
        f"On {findings.task_name}",
        [
            paragraph(_task_words(findings)),
            figure(drawn.get("task")),
            table("Scores on held-out examples", head, rows),
            figure(drawn.get("baselines")),
            baseline_table(findings),
            published(findings),
            *(figure(drawn.get(f"ledger_{role}")) for role in ORDER),
            agora(findings),
        ],
    )


def latency(findings: Findings, drawn: Drawings) -> str:
    """Latencies and the circumstances they were measured in."""
    rows = [
        [
            Cell(f"{row['model']}, {row['backend']}"),
            *(Cell(f"{row[key]:,}", row[key]) for key in ("batch", "sequence_length")),
            *(Cell(digits(row.get(key)), row.get(key)) for key in ("p50_ms", "p90_ms", "p99_ms", "processor_ms")),
            Cell(big(row.get("tokens_per_second")), row.get("tokens_per_second")),
        ]
        for row in findings.benchmark.get("rows") or []
        if is_number(row.get("p50_ms"))
    ]
    head = ["model", "batch", "tokens", "median (ms)", "90th (ms)", "99th (ms)", "processor (ms)", "tokens per second"]
    busy = "Other processes took much of this machine while this was measured: read these latencies with care."
    return section(
        "latency",
        "Latency",
        [
            note(busy) if findings.benchmark.get("busy") else "",
            figure(drawn.get("latency")),
            table("Latency of one call", head, rows),
            paragraph(_circumstances(findings)),
        ],
    )


def export(findings: Findings) -> str:
    """The exported forms: sizes, and how far each is from torch."""
    names = {"transformers": "transformers directory", "onnx": "ONNX", "optimised": "ONNX, optimised", "int8": "ONNX, int8"}
    rows = []
    for key, words in names.items():
        form = findings.export.get(key)
        if not isinstance(form, Mapping) or not is_number(form.get("bytes")):
            continue
        verdict = {True: "accepted", False: "refused", None: "checked"}[form.get("accepted")]
        rows.append(
            [
                Cell(words),
                Cell(size(form["bytes"]), form["bytes"]),
                Cell(digits(form.get("difference"), 2), form.get("difference")),
                Cell(digits(form.get("tolerance"), 2), form.get("tolerance")),
                Cell(f"{verdict}, {form['lost']:.1f} points lost" if is_number(form.get("lost")) else verdict),
            ]
        )
    head = ["form", "size", "largest difference from torch", "allowed", "verdict"]
    return section("export", "What can be taken away", [table("Exported forms of the fine-tuned student", head, rows, sort=False)])


def costs(findings: Findings, drawn: Drawings) -> str:
    """What each stage cost."""
    stages = [(name, seconds) for name, seconds in findings.seconds.items() if seconds > 0]
    rows = []
    for name, seconds in stages:
        processor = _processor_seconds(findings, name)
        rows.append([Cell(name), Cell(duration(seconds), seconds), Cell(duration(processor) if processor else DASH, processor)])
    if len(rows) > 1:
        rows.append(
            [
                Cell("together"),
                Cell(duration(sum(seconds for _, seconds in stages)), sum(seconds for _, seconds in stages)),
                Cell(DASH),
            ]
        )
    return section(
        "costs",
        "What it cost",
        [
            figure(drawn.get("stages")),
            table("Time of each stage", ["stage", "wall time", "training, processor time"], rows, sort=False),
        ],
    )


def _asked(findings: Findings) -> str:
    """Returns what was looked for, and by what means."""
    found = findings.search
    strategy, error, latency = (found.get(key) or {} for key in ("strategy", "error", "latency"))
    if not isinstance(strategy, Mapping) or not strategy.get("name") or not isinstance(error, Mapping):
        return ""
    rungs = error.get("rungs") or []
    by = {"distill": "short distillation", "supernet": "one student that shares its weights", "table": "a table of trainings"}
    bought = by.get(str(error.get("estimator")), str(error.get("estimator")))
    bought += f" to {rungs[-1]:,} steps" if rungs and is_number(rungs[-1]) and rungs[-1] > 0 else ""
    length = latency.get("sequence_length") if isinstance(latency, Mapping) else None
    measured = "measured in milliseconds" if findings.measured_latency else "counted in operations"
    counted = measured + (f" at {length} tokens" if is_number(length) else "")
    limits = (found.get("constraints") or {}).get("limits") or {}
    within = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in limits.items() if is_number(value))
    return (
        f"Asked for: the architecture with the largest W, by the strategy {strategy['name']}, with the error e bought by {bought} "
        f"and the latency i {counted}" + (f", within {within}." if within else ".")
    )


def _why_words(findings: Findings) -> str:
    winner, complete = findings.winner, findings.complete
    space = (findings.search.get("space") or {}).get("valid")
    if not winner or not complete:
        return ""
    asked = (
        f"Of {space:,} valid architectures, {len(findings.candidates)} were trained"
        if space
        else f"{len(findings.candidates)} candidates were trained"
    )
    complement = (findings.search.get("error") or {}).get("scale") == "complement"
    factor = "times one minus its error" if complement else "divided by its error"
    words = f"{asked}, and {winner['name']} has the largest W: what it saves in parameters and in latency, {factor}."
    saved = findings.savings(winner)
    if saved is None or not findings.maximum:
        return words
    p, i = findings.maximum
    top = (findings.search.get("maximum_point") or {}).get("name", "T")
    words += (
        f" It saves {percent(share_saved(float(winner['parameters']), p))} of the parameters and "
        f"{percent(share_saved(float(winner['latency']), i))} of the {'latency' if findings.measured_latency else 'operations'} "
        f"of the maximum point {top}."
    )
    reference = (findings.search.get("correlation") or {}).get("reference") or {}
    if is_number(reference.get("kendall_tau")):
        words += (
            f" The errors rank the {reference['n']} candidates that were trained in full elsewhere as that training does, with a "
            f"rank correlation of τ = {reference['kendall_tau']:.2f}."
        )
    best = min(complete, key=lambda item: float(item["error"]))
    if best.get("name") == winner.get("name"):
        return words + " No candidate has a smaller error."
    better = 1 - float(best["error"]) / float(winner["error"])
    given_up = findings.savings(best)
    if given_up is not None and saved > 0:
        words += (
            f" The candidate with the smallest error, {best['name']}, has {percent(better)} less error, "
            f"but {'saves only' if given_up < saved else 'saves'} {percent(given_up / saved)} as much, so its W is lower."
        )
    return words


def _task_words(findings: Findings) -> str:
    examples = findings.task.get("examples") or {}
    if not examples:
        return ""
    counts = ", ".join(f"{count:,} {name.replace('heldout', 'held out')}" for name, count in examples.items() if is_number(count))
    chosen = "Settings were chosen on steering examples; every score is on held-out ones that took no part in any choice."
    flat = "".join(
        f" The {TITLES[role]} cannot be told from always giving the most frequent label: it did not learn the task."
        for role in findings.unlearned
    )
    return f"Examples: {counts}. {chosen}{flat}"


def _candidates(findings: Findings) -> str:
    fronts = {row.get("name") for row in findings.search.get("front") or []}
    winner = findings.winner.get("name")
    rows = []
    for item in ranked(findings.candidates):
        own = item.get("name") == winner
        rows.append(
            [
                Cell(str(item.get("name")), strong=own),
                Cell(digits(item.get("w")), item.get("w"), strong=own),
                Cell(big(item.get("parameters")), item.get("parameters")),
                Cell(big(item.get("operations")), item.get("operations")),
                *([Cell(digits(item.get("latency")), item.get("latency"))] if findings.measured_latency else []),
                Cell(digits(item.get("error")), item.get("error")),
                Cell(f"{item.get('steps', 0):,}", item.get("steps", 0)),
                Cell("winner" if own else "on the front" if item.get("name") in fronts else _state(item)),
            ]
        )
    measured = ["i (ms)"] if findings.measured_latency else []
    return table(
        f"Every candidate, {len(rows)} in all",
        ["architecture", "W", "p", "multiply-adds", *measured, "e", "steps", "note"],
        rows,
        kind="tall",
    )


def _state(item: Record) -> str:
    states = {"complete": "", "pruned": "dropped early", "failed": "failed"}
    return states.get(str(item.get("state", "")), str(item.get("state", "")))


def _circumstances(findings: Findings) -> str:
    found = findings.benchmark.get("environment") or {}
    settings = findings.benchmark.get("settings") or {}
    if not found:
        return ""
    parts = [
        str(found.get("processor") or ""),
        f"{found['threads']} threads" if found.get("threads") else "",
        " ".join(found.get("instruction_sets") or []),
        f"{settings['repeats']} interleaved rounds" if settings.get("repeats") else "",
        f"load at the start {found['load'][0]}" if found.get("load") else "",
        f"{percent(findings.benchmark.get('others_share'), 0)} of the machine taken by others"
        if is_number(findings.benchmark.get("others_share"))
        else "",
    ]
    return "Measured on " + ", ".join(part for part in parts if part) + "."


def _processor_seconds(findings: Findings, stage: str) -> float | None:
    if stage == "search":
        found = findings.search.get("processor_seconds")
        return float(found) if is_number(found) else None
    if stage == "distill":
        return sum(float(record.get("processor_seconds") or 0.0) for record in findings.distilled.values()) or None
    if stage == "finetune":
        return sum(float((record.get("cost") or {}).get("processor_seconds") or 0.0) for record in findings.tuned.values()) or None
    return None


def _cost_cell(value: object, form: Any) -> Cell:
    return Cell(form(value), float(value) if is_number(value) else None)
