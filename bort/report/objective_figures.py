"""Students that differ in their loss alone: compared at equal steps, at equal cost, and with the teacher's pass charged."""

from __future__ import annotations

from collections.abc import Sequence

from bort.benchmarks.objectives import FIGURES, ObjectiveRun, compare_objectives, interval, name_of
from bort.report.drawing import Drawing, canvas, finish
from bort.report.theme import LIGHT

_COLOURS = ("twin", "student", "front", "teacher")


def draw_objectives(runs: Sequence[ObjectiveRun]) -> Drawing:
    """Draws each held-out figure against the steps and against the processor time, the teacher's pass charged or not.

    Args:
        runs: At least one run of each objective, with held-out points in its curve.
    """
    objectives = list(dict.fromkeys(run.objective for run in runs))
    shown = [name for name in FIGURES if any(run.line(name) for run in runs)]
    with canvas(len(shown), rows=2, width=9.6, height=5.6, sharey="col") as drawn:
        for column, name in enumerate(shown):
            steps, cost = drawn.axes[column], drawn.axes[len(shown) + column]
            for number, objective in enumerate(objectives):
                mine = [run for run in runs if run.objective == objective and run.line(name)]
                if not mine:
                    continue
                colour = LIGHT[_COLOURS[number % len(_COLOURS)]]
                places, mean, low, high = _band(mine, name)
                seconds = sum(run.processor_seconds for run in mine) / len(mine) / mine[0].steps
                label = name_of(objective)
                steps.plot(places, mean, color=colour, linewidth=1.7, label=label)
                steps.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
                cost.plot([place * seconds for place in places], mean, color=colour, linewidth=1.7)
                if mine[0].teacher_seconds:
                    charged = [place * seconds + mine[0].teacher_seconds for place in places]
                    cost.plot(charged, mean, color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
            steps.set_title(FIGURES[name], fontsize=8.5, weight="normal", color=LIGHT["muted"])
            steps.set_xlabel("training steps")
            cost.set_xlabel("processor seconds")
            cost.locator_params(axis="x", nbins=5)
        if any(run.teacher_seconds for run in runs):
            drawn.axes[0].plot([], [], color=LIGHT["muted"], linestyle=(0, (4, 2)), label="with the teacher's pass")
        handles, labels = drawn.axes[0].get_legend_handles_labels()
        drawn.figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8)
        rows = [row for row in compare_objectives(runs) if shown[0] in row["end"]]
        ends = [f"{row['name']} {row['end'][shown[0]]['mean']:.4g}" for row in rows]
        text = (
            "Held-out figures of students that differ in their loss alone, mean and 95 % interval over seeds, against steps and "
            f"against processor seconds. {FIGURES[shown[0]].capitalize()} at the end: {', '.join(ends)}."
        )
        return finish(drawn, "objectives", "Masked LM, knowledge distillation, and their mix", text)


def _band(runs: Sequence[ObjectiveRun], figure: str) -> tuple[list[int], list[float], list[float], list[float]]:
    """Returns steps, means, lows and highs over the seeds, at the steps that all of them have."""
    lines = [dict(run.line(figure)) for run in runs]
    places = sorted(set.intersection(*(set(line) for line in lines)))
    bands = [interval([line[place] for line in lines]) for place in places]
    means = [float(band["mean"] or 0.0) for band in bands]
    lows = [means[i] if band["low"] is None else band["low"] for i, band in enumerate(bands)]
    highs = [means[i] if band["high"] is None else band["high"] for i, band in enumerate(bands)]
    return places, means, lows, highs
