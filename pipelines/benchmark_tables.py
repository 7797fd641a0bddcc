"""What a person reads when a benchmark is done, made from its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from .tables import score, table

#: Hours of a day.
_DAY = 24.0


def latency(result: dict[str, Any]) -> RenderableType:
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


def search(result: Mapping[str, Any]) -> RenderableType:
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


def collect(result: Mapping[str, Any]) -> RenderableType:
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


def distill(result: dict[str, Any]) -> RenderableType:
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


def objectives(result: dict[str, Any]) -> RenderableType:
    """Each objective's held-out figures over seeds, and what they cost with and without the teacher's pass."""
    figures = list(dict.fromkeys(name for row in result["rows"] for name in row["end"]))
    rows = [
        (
            row["name"],
            *(score(row["end"][name]) if name in row["end"] else "–" for name in figures),
            f"{row['processor_seconds']['mean']:.0f}",
            f"{row['teacher_seconds']:.0f}",
        )
        for row in result["rows"]
    ]
    columns = ("objective", *figures, "processor-seconds", "and the teacher's pass")
    return table(f"Objectives after {result['rows'][0]['steps']:,} steps", columns, rows)


def agora(result: dict[str, Any]) -> RenderableType:
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


def cost(result: dict[str, Any]) -> RenderableType:
    """Hours and prices by device and job."""
    currency = result["assumptions"]["currency"]
    rows = [
        (
            row["device"],
            f"{row['job']}, {row['devices']} devices",
            _interval(row["device_hours"]),
            _interval([hours / _DAY for hours in row["hours"]], 1),
            "–" if row["price"][2] < 1 else _interval(row["price"]),
        )
        for row in result["rows"]
    ]
    flop, paper = result["flop"], result["paper"]
    title = (
        f"{result['candidates']} candidates of {result['candidate_tokens']:,} tokens; {result['distill_tokens']:,} tokens distilled"
    )
    told = (
        f"Counted: {flop['search']:.2g} FLOP for the candidates, {flop['teacher']:.2g} for the teacher's pass, "
        f"{flop['distill']:.2g} for the distillation, for which the paper's 288 V100-hours imply {paper['utilisation']:.0%} of the "
        "V100's peak."
    )
    columns = ("device", "job", "device-hours, likely [low, high]", "days", f"price in {currency}")
    return Group(table(title, columns, rows), f"[dim]{told} Utilisation and prices are assumptions: fleet.devices.[/]")


def workers(result: dict[str, Any]) -> RenderableType:
    """Seconds, speed-up and efficiency of each engine and number of workers."""
    rows = [
        (
            row["engine"],
            str(row["workers"]),
            ", ".join(f"{seconds:.2f}" for seconds in row["seconds"]),
            f"{row['speedup']:.2f}×",
            f"{row['efficiency']:.1%}",
        )
        for row in result["rows"]
    ]
    title = f"{result['candidates']} candidates of {result['candidate_seconds']:g} s each"
    return table(title, ("engine", "workers", "seconds of each round", "speed-up", "efficiency"), rows)


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{ratio['ratio']:.2f}× [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _share(value: Mapping[str, float], digits: int) -> str:
    """A share with its interval, in per cent."""
    return f"{value['value']:.{digits}%} [{100 * value['low']:.{digits}f}, {100 * value['high']:.{digits}f}]"


def _points(found: Mapping[str, Any], sign: str = "") -> str:
    """A mean in points with its interval."""
    if found["low"] is None:
        return f"{found['mean']:{sign}.1f}"
    return f"{found['mean']:{sign}.1f} [{found['low']:{sign}.1f}, {found['high']:{sign}.1f}]"


def _interval(values: Sequence[float], digits: int = 0) -> str:
    """What is likely, with its ends."""
    low, likely, high = (f"{value:,.{digits}f}" for value in values)
    return f"{likely} [{low}, {high}]"
