"""Agora's figures: the ledger of a run, and what the benchmark found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bort.report.drawing import Drawing, canvas, finish
from bort.report.formatting import DASH, percent, score
from bort.report.html import Cell, table
from bort.report.reading import TITLES, Findings, is_number
from bort.report.student_figures import ORDER
from bort.report.theme import LIGHT

_NAMES = {"agora": "Agora", "paper": "Agora as recovered", "distill": "distillation", "random": "random augmentation"}

_COLOURS = {"agora": LIGHT["student"], "paper": LIGHT["twin"], "distill": LIGHT["teacher"], "random": LIGHT["muted"]}


def ledgers(result: Mapping[str, Any], role: str, name: str = "ledger") -> Drawing:
    """Steering and held-out score, points and sets left over the iterations; a thin line a seed, the mean in full.

    Args:
        result: What :func:`bort.finetuning.agora.finetune_agora` returned.
        role: The model's name.
        name: The drawing's name.
    """
    metric = result["interval"]["metric"]
    runs: Sequence[Sequence[Mapping[str, Any]]] = [seed["ledger"] for seed in result["seeds"]]
    panels = {
        f"{metric.replace('_', ' ')}, in points": {
            "steering": [[100 * row["best"]["steering"] for row in run] for run in runs],
            "held out": [[100 * row["heldout"][metric] for row in run] for run in runs],
        },
        "points": {
            "in train": [[row["points"] for row in run] for run in runs],
            "new": [[row["kept"] for row in run] for run in runs],
        },
        "sets of Θ": {"left": [[len(row["left"]) for row in run] for run in runs]},
    }
    colours = (LIGHT["twin"], LIGHT["student"])
    with canvas(len(panels), height=2.8) as drawn:
        for axes, (unit, lines) in zip(drawn.axes, panels.items(), strict=True):
            for colour, (label, series) in zip(colours, lines.items(), strict=False):
                for values in series:
                    axes.plot(range(len(values)), values, color=colour, linewidth=0.8, alpha=0.45)
                mean = _mean(series)
                mark = axes.plot(range(len(mean)), mean, "o-", color=colour, linewidth=2, markersize=4, label=label)[0]
                drawn.hint(mark, f"{label}: " + ", ".join(f"{value:.1f}" for value in mean))
            axes.set_xlabel("iteration")
            axes.set_ylabel(unit)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="best", fontsize=7.5)
        best = max(range(len(runs[0])), key=lambda place: float(runs[0][place]["best"]["steering"]))
        text = (
            f"Agora on {result['task']['name']} with the {role}, {len(runs)} seeds: steering scores choose; held-out scores were "
            f"taken when all choices were made. In the first seed iteration {best} was the best on steering examples."
        )
        return finish(drawn, name, f"Agora on {result['task']['name']}", text)


def _mean(series: Sequence[Sequence[float]]) -> list[float]:
    """Returns the mean over the seeds that got so far."""
    longest = max(len(values) for values in series)
    found = [[values[place] for values in series if place < len(values)] for place in range(longest)]
    return [sum(values) / len(values) for values in found]


def worth(result: Mapping[str, Any]) -> Drawing:
    """How far each arm is ahead of plain fine-tuning in each setting, with its interval over seeds.

    Args:
        result: What :func:`bort.finetuning.agora.run_benchmark` returned.
    """
    arms = [arm for arm in _NAMES if arm in result["overall"]]
    rows = [(f"{setting['task']}, {setting['size']:,}", setting["differences"]) for setting in result["settings"]]
    rows.append(("mean of all", result["overall"]))
    with canvas(height=1.1 + (0.16 * len(arms) + 0.12) * len(rows)) as drawn:
        axes = drawn.axes[0]
        axes.axvline(0, color=LIGHT["muted"], linewidth=1)
        for row, (name, differences) in enumerate(rows):
            for place, arm in enumerate(arms):
                found, height = differences[arm], row + 0.7 * ((place + 0.5) / len(arms) - 0.5)
                if found["low"] is not None:
                    axes.plot([found["low"], found["high"]], [height, height], color=_COLOURS[arm], linewidth=3.5, alpha=0.3)
                label = _NAMES[arm] if row == 0 else None
                mark = axes.plot(found["mean"], height, "o", color=_COLOURS[arm], markersize=5, label=label)[0]
                drawn.hint(mark, f"{name}, {_NAMES[arm]}: {found['mean']:+.1f} points")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("points ahead of plain fine-tuning on held-out examples (more is better →)")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="best", fontsize=7.5)
        told = [f"{_NAMES[arm]} {result['overall'][arm]['mean']:+.1f} points" for arm in arms]
        text = f"Against plain fine-tuning at equal steps, on the mean of {len(rows) - 1} settings: {', '.join(told)}. "
        text += f"Bars are intervals over {len(result['seeds'])} seeds, paired by draw of examples."
        return finish(drawn, "agora", "What Agora is worth", text)


_HEAD = ["iteration", "sets of Θ left", "new points", "points in train", "best on steering", "the same, held out"]


def by_agora(record: Mapping[str, Any]) -> bool:
    """Tells whether a model was fine-tuned by Agora: its seeds then have a ledger each."""
    seeds = record.get("seeds") or []
    return bool(seeds) and all(isinstance(seed, Mapping) and seed.get("ledger") for seed in seeds)


def agora(findings: Findings) -> str:
    """Returns the ledger of the first seed of each model that Agora fine-tuned; empty where it took no part."""
    return "".join(_ledger(findings, role) for role in ORDER if by_agora(findings.tuned.get(role) or {}))


def _ledger(findings: Findings, role: str) -> str:
    seed = findings.tuned[role]["seeds"][0]
    metric = findings.metrics[0]
    rows = []
    for number, row in enumerate(seed["ledger"]):
        steering, heldout = row["best"]["steering"], (row.get("heldout") or {}).get(metric)
        rows.append(
            [
                Cell(str(number), number),
                Cell(str(len(row["left"])), len(row["left"])),
                Cell(f"{row['kept']:,}", row["kept"]),
                Cell(f"{row['points']:,}", row["points"]),
                Cell(score(steering, metric), steering),
                Cell(score(heldout, metric) if is_number(heldout) else DASH, heldout if is_number(heldout) else None),
            ]
        )
    right = ((seed.get("labeller") or {}).get("steering") or {}).get("accuracy")
    words = f"; its labeller is right on {percent(right)} of the steering examples" if is_number(right) else ""
    return table(f"Agora with the {TITLES[role]}, seed {seed.get('seed', 0)}{words}", _HEAD, rows)
