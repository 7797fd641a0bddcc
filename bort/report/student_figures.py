"""Figures of the student: learning curves, task scores, latencies, and what each stage cost."""

from __future__ import annotations

from typing import Any

from bort.report.drawing import Canvas, Drawing, canvas, finish
from bort.report.formatting import duration, figure, score, times
from bort.report.reading import HELDOUT, TITLES, Findings, Score, is_number, points
from bort.report.theme import LIGHT, ROLE_COLOURS

#: The order in which models stand beside each other.
ORDER = ("teacher", "student", "twin")


def curves(findings: Findings) -> Drawing | None:
    """Held-out figures of student and twin while they train; their training losses where there is nothing held-out to compare."""
    panels = _heldout_panels(findings)
    if not panels:
        return None
    twin = "twin" in findings.distilled
    with canvas(len(panels), height=3.2) as drawn:
        for axes, (name, title, lines) in zip(drawn.axes, panels, strict=True):
            for role, line in lines.items():
                x, y = zip(*line, strict=True)
                few = len(x) < 40
                axes.plot(
                    x, y, color=ROLE_COLOURS[role], linewidth=1.9, marker="o" if few else None, markersize=3, label=TITLES[role]
                )
                drawn.hint(
                    axes.plot(x[-1], y[-1], "o", color=ROLE_COLOURS[role], markersize=5)[0], f"{TITLES[role]}: {figure(y[-1])}"
                )
            reference = findings.heldout("student").get(f"teacher_{name}")
            if reference is not None:
                axes.axhline(
                    reference, color=ROLE_COLOURS["teacher"], linewidth=1.2, linestyle=(0, (4, 2)), label=TITLES["teacher"]
                )
            axes.set_title(title, fontsize=8.5, weight="normal", color=LIGHT["muted"])
            axes.set_xlabel("training steps")
            axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}")
            axes.xaxis.set_major_locator(_locator(4))
        lines = {label: handle for axes in drawn.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        drawn.figure.legend(lines.values(), lines.keys(), loc="outside upper right", ncols=3, fontsize=8)
        ends = [
            f"{title}: "
            + ", ".join(f"{TITLES[role] if len(lines) > 1 else ''} {figure(line[-1][1])}".strip() for role, line in lines.items())
            for _, title, lines in panels
        ]
        held_out = panels[0][0] in HELDOUT
        what = "Figures on held-out text" if held_out else "The loss on the text trained on, whose scales differ,"
        text = f"{what} as training goes on, {'student and twin' if twin else 'the student'}. At the end, {'; '.join(ends)}."
        return finish(drawn, "curves", f"Learning curves{' on held-out text' if held_out else ''}", text)


def _heldout_panels(findings: Findings) -> list[tuple[str, str, dict[str, list[tuple[float, float]]]]]:
    panels = []
    for name in findings.shared_heldout:
        lines: dict[str, list[tuple[float, float]]] = {}
        for role in ("student", "twin"):
            record = findings.distilled.get(role, {})
            line = dict(points(record, f"heldout_{name}"))
            final, steps = findings.heldout(role).get(name), record.get("steps")
            if final is not None and is_number(steps):
                line[float(steps)] = final
            if len(line) > 1:
                lines[role] = sorted(line.items())
        if lines:
            panels.append((name, HELDOUT[name][0], lines))
    if panels:
        return panels[:2]
    losses = {role: points(findings.distilled.get(role, {}), "loss") for role in ("student", "twin")}
    return [("loss", f"training loss, {TITLES[role]}", {role: line}) for role, line in losses.items() if len(line) > 1]


def task_scores(findings: Findings) -> Drawing | None:
    """Score and interval of each model, a panel for each metric."""
    shown = [(metric, [found for role in ORDER if (found := findings.score(role, metric))]) for metric in findings.metrics[:3]]
    shown = [(metric, scores) for metric, scores in shown if scores]
    if not shown:
        return None
    rows = [*(found.role for found in shown[0][1]), "majority"]
    with canvas(len(shown), height=0.95 + 0.42 * len(rows), sharey=True) as drawn:
        for axes, (metric, scores) in zip(drawn.axes, shown, strict=True):
            for found in scores:
                _interval(drawn, axes, rows.index(found.role), found)
            constant = findings.majority(metric)
            if constant is not None:
                axes.axvline(constant, color=LIGHT["muted"], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
                mark = axes.plot(constant, rows.index("majority"), "|", color=LIGHT["muted"], markersize=11, markeredgewidth=2)[0]
                drawn.hint(mark, f"{TITLES['majority']}: {score(constant, metric)}")
            axes.set_yticks(range(len(rows)), [TITLES[role] for role in rows])
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.margins(x=0.12)
            axes.xaxis.set_major_locator(_locator(6 if len(shown) == 1 else 4))
            axes.xaxis.set_major_formatter(lambda value, _position: f"{100 * value:.3g}")
            axes.set_xlabel(f"{metric.replace('_', ' ')}, in points   (more is better →)")
            axes.grid(axis="y", visible=False)
        seeds = max(len(found.values) for _, scores in shown for found in scores)
        over = shown[0][1][0].interval
        text = f"Scores on held-out examples of {findings.task_name}: " + "; ".join(_score_words(found) for found in shown[0][1])
        constant = findings.majority(shown[0][0])
        text += f"; always the most frequent label {score(constant, shown[0][0])}. " if constant is not None else ". "
        text += f"Small dots are the {seeds} seeds. " if seeds > 1 else ""
        text += f"Bars are 95 % intervals over {over}." if over else ""
        return finish(drawn, "task", f"Scores on {findings.task_name}", text)


def _interval(drawn: Canvas, axes: Any, row: int, found: Score) -> None:
    colour = ROLE_COLOURS[found.role]
    if found.bounds:
        axes.plot(found.bounds, [row, row], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt", zorder=2)
    axes.plot(found.values, [row] * len(found.values), "o", color=colour, markersize=3.5, alpha=0.7, zorder=3)
    mark = axes.plot(found.mean, row, "o", color=colour, markersize=7.5, markeredgecolor=LIGHT["paper"], zorder=4)[0]
    drawn.hint(mark, _score_words(found))
    axes.annotate(
        score(found.mean, found.metric),
        (found.mean, row),
        xytext=(0, 9),
        textcoords="offset points",
        ha="center",
        weight="bold",
        fontsize=8,
    )


def _score_words(found: Score) -> str:
    sure = f" ({100 * found.bounds[0]:.1f} to {100 * found.bounds[1]:.1f})" if found.bounds else ""
    return f"{TITLES[found.role]} {score(found.mean, found.metric)}{sure}"


def latency(findings: Findings) -> Drawing | None:
    """Median latency of each model on each backend, with a line to its 99th percentile; a panel for each batch and length."""
    rows = [row for row in findings.benchmark.get("rows") or [] if is_number(row.get("p50_ms"))]
    cells = sorted({(int(row.get("batch", 1)), int(row.get("sequence_length", 0))) for row in rows})[:2]
    if not rows:
        return None
    series = list(dict.fromkeys((str(row["model"]), str(row["backend"])) for row in rows))
    with canvas(len(cells), height=0.95 + 0.36 * len(series), sharey=True) as drawn:
        for axes, cell in zip(drawn.axes, cells, strict=True):
            own = [row for row in rows if (int(row.get("batch", 1)), int(row.get("sequence_length", 0))) == cell]
            reach = max(float(row.get("p99_ms") or row["p50_ms"]) for row in own)
            for row in own:
                place = series.index((str(row["model"]), str(row["backend"])))
                middle, far = float(row["p50_ms"]), float(row.get("p99_ms") or row["p50_ms"])
                colour = ROLE_COLOURS.get(str(row["model"]), LIGHT["muted"])
                bar = axes.barh(place, middle, height=0.6, color=colour, alpha=1.0 if row["backend"] == "eager" else 0.6)[0]
                drawn.hint(bar, f"{row['model']}, {row['backend']}: median {figure(middle)} ms, 99th percentile {figure(far)} ms")
                axes.plot([middle, far], [place, place], color=LIGHT["ink"], linewidth=1)
                axes.plot(far, place, "|", color=LIGHT["ink"], markersize=6)
                axes.annotate(
                    figure(middle), (far, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8, weight="bold"
                )
            axes.set_xlim(0, reach * 1.16)
            axes.set_yticks(range(len(series)), [f"{model}, {backend}" for model, backend in series])
            axes.set_ylim(len(series) - 0.5, -0.5)
            axes.set_title(f"batch {cell[0]}, {cell[1]} tokens", fontsize=8.5, weight="normal", color=LIGHT["muted"])
            axes.set_xlabel("milliseconds   (← less is better)")
            axes.grid(axis="y", visible=False)
        ratio = findings.faster()
        text = "Median time of one call; the thin line reaches to the 99th percentile. "
        if ratio:
            text += (
                f"The student is {times(ratio['ratio'])} as fast as the teacher in PyTorch at batch {ratio['batch']} "
                f"(95 % interval {figure(ratio['low'])} to {figure(ratio['high'])})."
            )
        return finish(drawn, "latency", "Latency on this machine", text)


def stage_costs(findings: Findings) -> Drawing | None:
    """Wall time of each stage."""
    stages = [(name, seconds) for name, seconds in findings.seconds.items() if name not in ("total", "reproduce") and seconds > 0]
    if len(stages) < 2:
        return None
    total = sum(seconds for _, seconds in stages)
    with canvas(height=0.75 + 0.27 * len(stages)) as drawn:
        axes = drawn.axes[0]
        for row, (name, seconds) in enumerate(stages):
            drawn.hint(axes.barh(row, seconds, height=0.62, color=LIGHT["faint"])[0], f"{name}: {duration(seconds)}")
            axes.annotate(duration(seconds), (seconds, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(stages)), [name for name, _ in stages])
        axes.set_ylim(len(stages) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.set_xlabel("seconds")
        axes.grid(axis="y", visible=False)
        most = max(stages, key=lambda stage: stage[1])
        text = f"Wall time of each stage, {duration(total)} in all; {most[0]} takes the most, {duration(most[1])}."
        return finish(drawn, "stages", "What each stage cost", text)


def _locator(count: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count)
