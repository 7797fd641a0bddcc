"""What a person reads when a stage is done: one table each, made from its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
    scored = sorted((item for item in result["candidates"] if item.get("w") is not None), key=lambda item: -item["w"])
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
    """Each encoder's held-out scores, with intervals over seeds."""
    rows = [(role, *(_score(score) for score in model["metrics"].values())) for role, model in result["models"].items()]
    rows.append(("majority class", *(f"{result['baseline']['metrics'][name]:.4f}" for name in result["metrics"])))
    seeds = ", ".join(str(run["seed"]) for run in result["seeds"])
    title = f"Task {result['task']['name']}: held-out scores over seeds {seeds}"
    return table(title, ("encoder", *result["metrics"]), rows)


def score_headline(result: Mapping[str, Any]) -> str:
    """Each encoder's first held-out score."""
    scores = [f"{role} {_score(next(iter(model['metrics'].values())))}" for role, model in result["models"].items()]
    return f"{result['task']['name']}, {next(iter(result['metrics']))}: {', '.join(scores)}"


def evaluate(result: dict[str, Any]) -> RenderableType:
    """The held-out scores, with intervals over examples, and the submission."""
    rows = [
        (name, f"{score['value']:.4f} [{score['examples']['low']:.4f}, {score['examples']['high']:.4f}]")
        for name, score in result["metrics"].items()
    ]
    rows += [("submission", Path(result["submission"][what]).name) for what in _SUBMITTED if what in (result["submission"] or {})]
    return table(f"{result['model']} on {result['task']['name']}", ("metric", "held out"), rows)


def export(result: dict[str, Any]) -> RenderableType:
    """The files that were written, their sizes, how far they are from torch, and what int8 loses of the task's metric."""
    forms = [(name, result[name]) for name in ("transformers", "onnx", "optimised", "int8") if result.get(name)]
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
    forms = {name: result.get(name) or {} for name in ("transformers", "onnx", "optimised", "int8")}
    kept = [f"{name} {form['bytes'] / 1e6:.1f} MB" for name, form in forms.items() if form.get("accepted", bool(form))]
    return f"{result['kind']}: {', '.join(kept)}"


def benchmark(result: dict[str, Any]) -> RenderableType:
    """Percentiles of each model, backend, batch and length, how many times faster than the reference, and the targets."""
    reference = result["anchor"]
    faster = {
        (ratio["model"], ratio["backend"], ratio["batch"], ratio["sequence_length"]): _ratio(ratio)
        for ratio in result["ratios"]
        if (ratio["over_model"], ratio["over_backend"]) == (reference["model"], reference["backend"])
    }
    rows = [
        (
            f"{row['model']} ({row['backend']})",
            row["batch"],
            row["sequence_length"],
            *(f"{row[f'{name}_ms']:.1f} ms" for name in ("p50", "p90", "p99", "processor")),
            faster.get((row["model"], row["backend"], row["batch"], row["sequence_length"]), "1"),
            "yes" if row["busy"] else "no",
        )
        for row in result["rows"]
    ]
    environment = result["environment"]
    title = f"Latency on {environment['processor']}, {environment['threads']} threads"
    columns = (
        "model",
        "batch",
        "length",
        "p50",
        "p90",
        "p99",
        "processor",
        f"{reference['model']} ({reference['backend']}) ÷",
        "busy",
    )
    shown = [table(title, columns, rows)]
    if result["targets"]:
        verdicts = {True: "met", False: "not met", None: "not decided"}
        asked = [(row["model"], row["target"], _ratio(row), verdicts[row["met"]]) for row in result["targets"]]
        shown.append(table("What is asked of Bort's shapes, at batch 1 and 128 tokens", ("model", "target", "measured", ""), asked))
    if result.get("serving"):
        served = [
            (
                f"{row['model']} ({row['backend']})",
                row["mix"],
                row["way"],
                row["calls"],
                f"{row['computed_tokens'] / row['tokens'] - 1:.0%}",
                f"{row['p50_ms']:.1f} ms",
                _ratio(row["faster"]) if row["faster"] else "1",
                f"{row['difference']:.0e}",
            )
            for row in result["serving"]
        ]
        head = ("model", "lengths", "way", "calls", "padding", "p50", "faster", "differs by")
        shown.append(table(f"Batches of {result['serving'][0]['requests']} requests of mixed lengths", head, served))
    return Group(*shown)


def benchmark_search(result: Mapping[str, Any]) -> RenderableType:
    """How often each strategy found the exhaustive winner at each budget, and by how much it fell short."""
    budgets, strategies = result["settings"]["budgets"], result["settings"]["strategies"]
    shown: list[RenderableType] = []
    for kind in result["settings"]["tables"]:
        cells = {(row["strategy"], row["budget"]): row for row in result["rows"] if row["table"] == kind}
        head = ("strategy", *(f"{budget:.0%} of the steps" for budget in budgets))
        found = [(name, *(_share(cells[name, budget]["success"], 0) for budget in budgets)) for name in strategies]
        near = [(name, *(_share(cells[name, budget]["near"], 0) for budget in budgets)) for name in strategies]
        regret = [(name, *(_share(cells[name, budget]["regret"], 2) for budget in budgets)) for name in strategies]
        replays = max(row["replays"] for row in cells.values())
        shown.append(table(f"Found the exhaustive winner, {replays} replays on {kind} tables", head, found))
        shown.append(table("Found one within 1 % of the winner's W", head, near))
        shown.append(table("Mean regret in W", head, regret))
    return Group(*shown)


def replay_headline(result: Mapping[str, Any]) -> str:
    """How often the first strategy found the winner at a tenth of the steps, or at the first budget above."""
    name = result["settings"]["strategies"][0]
    rows = [row for row in result["rows"] if row["strategy"] == name]
    row = next((row for row in rows if row["budget"] >= 0.1), rows[-1])
    share = _share(row["success"], 1)
    return f"{name} found the exhaustive winner in {share} of {row['replays']} replays with {row['budget']:.0%} of its steps"


def benchmark_collect(result: Mapping[str, Any]) -> RenderableType:
    """What a table for replays holds."""
    rows = [
        ("architectures", result["architectures"]),
        ("with several seeds", result["several_seeds"]),
        ("seeds", ", ".join(str(seed) for seed in result["seeds"])),
        ("steps", ", ".join(str(steps) for steps in result["steps"])),
        ("columns", ", ".join(result["columns"])),
        ("table", result["table"]),
    ]
    return table(f"{result['rows']:,} errors of {len(result['searches'])} searches", ("", ""), rows)


def benchmark_distill(result: dict[str, Any]) -> RenderableType:
    """Each variant of the loop: its speed, its ratios to the usual one, its memory and how far its loss is from the usual one's."""
    rows = [
        (
            f"{row['variant']} ({row['implementation']})",
            f"{row['tokens_per_second']:,.0f}",
            _ratio(row["faster"]),
            _ratio(row["faster_by_processor"]),
            _ratio(row["student_step_faster"]),
            f"{(row['peak_device_memory_bytes'] or row['peak_memory_bytes']) / 1e6:,.0f} MB",
            "–" if row["mfu"] is None else f"{row['mfu']:.0%}",
            f"{row['loss_difference']:.0e}",
        )
        for row in result["rows"]
    ]
    title = f"Distillation of {result['student']} from {result['teacher']} on {result['device']}"
    columns = ("loop", "tokens/s", "faster", "by processor", "student's step", "peak memory", "MFU", "loss differs by")
    return table(title, columns, rows)


def benchmark_objectives(result: dict[str, Any]) -> RenderableType:
    """Each objective's held-out figures over seeds, and what they cost with and without the teacher's pass."""
    figures = list(dict.fromkeys(name for row in result["rows"] for name in row["end"]))
    rows = [
        (
            row["name"],
            *(_score(row["end"][name]) if name in row["end"] else "–" for name in figures),
            f"{row['processor_seconds']['mean']:.0f}",
            f"{row['teacher_seconds']:.0f}",
        )
        for row in result["rows"]
    ]
    columns = ("objective", *figures, "processor-seconds", "and the teacher's pass")
    return table(f"Objectives after {result['rows'][0]['steps']:,} steps", columns, rows)


def benchmark_agora(result: dict[str, Any]) -> RenderableType:
    """Each setting's scores in points, and how far each arm is ahead of plain fine-tuning on the mean of all settings."""
    arms = list(result["settings"][0]["scores"])
    rows = [
        (
            f"{setting['task']} {setting['size']:,}",
            setting["metric"],
            f"{setting['majority']:.1f}",
            *(_points(setting["scores"][arm]) for arm in arms),
            _points(setting["differences"]["agora"], "+") if "agora" in setting["differences"] else "–",
        )
        for setting in result["settings"]
    ]
    ahead = [
        "ahead of plain, mean",
        "",
        "",
        *(_points(result["overall"][arm], "+") if arm in result["overall"] else "–" for arm in arms),
        "",
    ]
    costs = [
        [name.replace("_", "-"), "", "", *(f"{result['cost'][arm][name]:,.0f}" for arm in arms), ""]
        for name in ("steps", "processor_seconds")
    ]
    title = f"Agora over seeds {', '.join(map(str, result['seeds']))}: {agora_verdict(result)}"
    return table(title, ("task and train examples", "metric", "majority", *arms, "agora − plain"), [*rows, ahead, *costs])


def agora_verdict(result: Mapping[str, Any]) -> str:
    """Returns the benchmark's finding as a sentence."""
    verdict = result.get("verdict")
    if verdict is None:
        return "no comparison of Agora with plain fine-tuning was asked for"
    worst = verdict["worst"]
    sure = f" [{verdict['low']:+.1f}, {verdict['high']:+.1f}]" if verdict["low"] is not None else ""
    return (
        f"{verdict['mean']:+.1f}{sure} points against plain fine-tuning, at worst {worst['difference']:+.1f} "
        f"({worst['task']} with {worst['size']:,}); target {'met' if verdict['met'] else 'not met'}"
    )


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
            (f"{task['name']} {metric}, {role}", _score(task[role][metric]))
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


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{ratio['ratio']:.2f}× [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _share(value: Mapping[str, float], digits: int) -> str:
    """A share with its interval, in per cent."""
    return f"{value['value']:.{digits}%} [{100 * value['low']:.{digits}f}, {100 * value['high']:.{digits}f}]"


def _points(found: Mapping[str, Any], sign: str = "") -> str:
    """A mean in points with its interval."""
    if found["low"] is None:
        return f"{found['mean']:{sign}.1f}"
    return f"{found['mean']:{sign}.1f} [{found['low']:{sign}.1f}, {found['high']:{sign}.1f}]"


def _score(score: Mapping[str, Any]) -> str:
    """A mean with its interval; a single seed has none."""
    if score["low"] is None:
        return f"{score['mean']:.3f}"
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
