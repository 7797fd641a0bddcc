"""What a person reads when a stage of the chain is done: one table each, made from its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bort.export.release import FORMS

#: What cleaning did to the documents that it counts.
_CLEANED = {
    "tables": "tables taken out",
    "markup": "mark-up taken out",
    "short": "too short, left out",
    "language": "other language, left out",
    "duplicates": "duplicates, left out",
    "near_duplicates": "near-duplicates, left out",
}
#: What the table of an evaluation names of a submission.
_SUBMITTED = ("file", "zip", "suite_zip")
#: Candidates that the table of a search shows.
_SHOWN = 8


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType:
    """Returns a table under its title, its numbers to the right."""
    made = Table(show_header=any(columns), header_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place == 0 else "right")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    # A title of the table itself would be folded to the table's width.
    return Group(Text(title, style="bold"), made)


def score(found: Mapping[str, Any]) -> str:
    """Returns a mean with its interval; a single seed has none."""
    if found["low"] is None:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def corpus(result: dict[str, Any]) -> RenderableType:
    """The documents, blocks and tokens of each split and each source, and what cleaning changed or left out."""
    rows = [(split, *(f"{result[what][split]:,}" for what in ("documents", "blocks", "tokens"))) for split in ("train", "heldout")]
    shown = [table(f"Corpus {result['name']}", ("split", "documents", "blocks", "tokens"), rows)]
    if len(result["by_source"]) > 1:
        sources = [(source["name"], f"{source['documents']:,}", f"{source['tokens']:,}") for source in result["by_source"]]
        shown.append(table("Sources", ("source", "documents", "tokens"), sources))
    steps = [(_CLEANED[step], f"{count['documents']:,}", _amount(count)) for step, count in result["cleaning"].items()]
    steps += [
        (f"{kind}, left out", f"{result[f'{kind}_documents']:,}", "")
        for kind in ("empty", "invalid")
        if result[f"{kind}_documents"]
    ]
    if steps:
        shown.append(table("Cleaning", ("step", "documents", "removed"), steps))
    return Group(*shown)


def _amount(count: Mapping[str, int]) -> str:
    return next(f"{count[unit]:,} {unit}" for unit in ("characters", "tokens") if unit in count)


def teacher(result: dict[str, Any]) -> RenderableType:
    """The teacher's shape and the size of its soft targets."""
    rows = [
        ("architecture", result["architecture"]),
        ("parameters", f"{result['parameters']:,}"),
        ("blocks with soft targets", f"{result['identity']['blocks']:,} + {result['identity']['heldout_blocks']:,} held out"),
    ]
    if result.get("bytes") is not None:
        rows.append(("soft targets", f"{result['identity']['kind']}, {result['bytes'] / 1e6:,.1f} MB"))
    head = result.get("head")
    if head and "accuracy" in head:
        rows.append(("head", f"fitted in {head['steps']:,} steps, {head['trained']} trained"))
        for name, figures in (("fitted head", head), *((f"{name} baseline", part) for name, part in head["baselines"].items())):
            rows.append((name, f"held-out accuracy {figures['accuracy']:.3f}, cross-entropy {figures['cross_entropy']:.2f} nats"))
    return table(f"Teacher {result['name']}", ("", ""), rows)


def search(result: Mapping[str, Any]) -> RenderableType:
    """The best candidates by W, the winner first."""
    from bort.search.w import ranked

    scored = ranked(item for item in result["candidates"] if item.get("w") is not None)
    measured = result["latency"]["name"] != "operations"
    rows = [
        (
            item["name"],
            f"{item['parameters'] / 1e6:.2f} M",
            f"{item['operations'] / 1e6:,.0f} M",
            *([f"{item['latency']:.3g} ms"] if measured else []),
            f"{item['error']:.4f}",
            f"{item['w']:.4f}",
            item["steps"],
        )
        for item in scored[:_SHOWN]
    ]
    valid = result["space"]["valid"]
    title = f"Search: {result['winner']['name']} has the largest W of {len(scored)} trained, in a space of {valid}"
    return table(title, ("architecture", "p", "multiply-adds", *(["i"] if measured else []), "e", "W", "steps"), rows)


def distill(result: dict[str, Any]) -> RenderableType:
    """The held-out figures of the student and its twin."""
    models = {"student": result, "twin": result.get("twin")}
    present = {name: model for name, model in models.items() if model}
    figures = list(dict.fromkeys(name for model in present.values() for name in model["heldout"]))
    rows = [(name, *(_number(model["heldout"].get(name)) for model in present.values())) for name in figures]
    rows += [
        (name, *(f"{model[key]:,.0f}" for model in present.values()))
        for name, key in (
            ("tokens", "tokens"),
            ("tokens a second", "tokens_per_second"),
            ("processor-seconds", "processor_seconds"),
            ("parameters", "parameters"),
        )
    ]
    return table(f"Distilled {result['architecture']}", ("held out", *present), rows)


def finetune(result: dict[str, Any]) -> RenderableType:
    """Held-out scores with intervals over seeds, and the same metric of every baseline with size, latency and cost."""
    rows = [(role, *(score(values) for values in model["metrics"].values())) for role, model in result["models"].items()]
    rows.append(("majority class", *(f"{result['baseline']['metrics'][name]:.4f}" for name in result["metrics"])))
    seeds = ", ".join(str(run["seed"]) for run in result["seeds"])
    title = f"Task {result['task']['name']}: held-out scores over seeds {seeds}"
    shown: list[RenderableType] = [table(title, ("encoder", *result["metrics"]), rows)]
    if result.get("gains"):
        shown.append(gains(result))
    if result.get("baselines"):
        shown.append(comparison(result["comparison"]))
    return Group(*shown)


_GAINS = {
    "start": "what the start gives (untrained start − random weights)",
    "training": "what training adds (student − its untrained start)",
    "teacher": "what the teacher adds (student − twin)",
    "all": "student − random weights",
}


def gains(result: Mapping[str, Any]) -> RenderableType:
    """Differences between the student and its controls, paired over seeds, in points."""
    rows = [(_GAINS[name], *(points(gain) for gain in found.values())) for name, found in result["gains"].items()]
    return table("\nWhere the student's score comes from, in points", ("", *result["metrics"]), rows)


def points(found: Mapping[str, Any]) -> str:
    """Return a difference in points with its interval."""
    interval = "" if found["low"] is None else f" [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
    return f"{100 * found['mean']:+.1f}{interval}"


def comparison(compared: Mapping[str, Any]) -> RenderableType:
    """Fine-tuned models and baselines, the best first; intervals are over seeds for models and over examples for baselines."""
    rows = [
        (
            row["title"],
            score(row),
            f"{row['parameters'] / 1e6:.2f} M" if row["parameters"] else "–",
            "–" if row["latency_ms"] is None else f"{row['latency_ms']:.2f}",
            "–" if row["processor_seconds"] is None else f"{row['processor_seconds']:.0f}",
        )
        for row in compared["rows"]
    ]
    head = ("", compared["metric"].replace("_", " "), "parameters", "ms, one text", "processor s")
    return Group(table("\nBeside the baselines", head, rows), compared["sentence"])


def score_headline(result: Mapping[str, Any]) -> str:
    """Each encoder's first held-out score."""
    scores = [f"{role} {score(next(iter(model['metrics'].values())))}" for role, model in result["models"].items()]
    return f"{result['task']['name']}, {next(iter(result['metrics']))}: {', '.join(scores)}"


def evaluate(result: dict[str, Any]) -> RenderableType:
    """The held-out scores, with intervals over examples, and the submission."""
    rows = [
        (name, f"{found['value']:.4f} [{found['examples']['low']:.4f}, {found['examples']['high']:.4f}]")
        for name, found in result["metrics"].items()
    ]
    rows += [("submission", Path(result["submission"][what]).name) for what in _SUBMITTED if what in (result["submission"] or {})]
    return table(f"{result['model']} on {result['task']['name']}", ("metric", "held out"), rows)


def export(result: dict[str, Any]) -> RenderableType:
    """The files that were written, their sizes, how far they are from torch, and what int8 loses of the task's metric."""
    forms = [(name, result[name]) for name in FORMS if result.get(name)]
    rows = [
        (
            name if form.get("accepted") is not False else f"{name}, not kept",
            f"{form['bytes'] / 1e6:.1f} MB",
            f"{form['difference']:.1e}" if form["difference"] is not None else "–",
        )
        for name, form in forms
    ]
    shown = [table("Exported", ("format", "size", "largest difference"), rows)]
    int8 = result.get("int8") or {}
    if int8.get("accepted") is not None:
        judged = [
            (
                form["quantised"],
                f"{form['full_bytes'] / 1e6:.1f} → {form['bytes'] / 1e6:.1f} MB",
                f"{form['full_score']:.4f}",
                f"{form['score']:.4f}",
                f"{form['lost']:+.2f} of {form['allowed']:g}",
                "kept" if form["accepted"] else "not kept",
            )
            for form in (*int8["tried"], *([int8] if int8["accepted"] else []))
        ]
        title = f"int8 by {int8['metric']} on {int8['examples']:,} held-out examples of {int8['task']}"
        shown.append(table(title, ("quantised", "size", "fp32", "int8", "points lost", ""), judged))
    return Group(*shown)


def export_headline(result: Mapping[str, Any]) -> str:
    """The forms that were kept, with their sizes."""
    forms = {name: result.get(name) or {} for name in FORMS}
    kept = [f"{name} {form['bytes'] / 1e6:.1f} MB" for name, form in forms.items() if form.get("accepted", bool(form))]
    return f"{result['kind']}: {', '.join(kept)}"


def report(result: dict[str, Any]) -> RenderableType:
    """Where the page lies."""
    return table("Report", ("page", "sections"), [(result["page"], ", ".join(result["sections"]))])


def reproduce(result: dict[str, Any]) -> RenderableType:
    """What was found, what it cost, and where to look."""
    winner, student, task = result["winner"], result["student"], result["task"]
    teacher = result["teacher"]
    metric = next(iter(task["student"]))
    found = [
        ("winner", f"{winner['name']}, W = {winner['w']:.3f}"),
        ("size", f"{student['parameters'] / 1e6:.2f} M parameters, {teacher['parameters'] / student['parameters']:.1f}× smaller"),
        *(
            (f"{task['name']} {metric}, {role}", score(task[role][metric]))
            for role in ("student", "twin", "teacher")
            if role in task
        ),
        (f"{task['name']} {metric}, majority class", f"{task['majority'][metric]:.3f}"),
        ("report", result["report"]),
        ("all runs", "make ui"),
    ]
    costs = [(stage, f"{seconds:.1f}") for stage, seconds in result["seconds"].items()]
    costs.append(("total", f"{sum(result['seconds'].values()):.1f}"))
    return Group(table("What was found", ("", ""), found), table("\nWhat it cost", ("stage", "seconds"), costs))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
