"""Figures of a search: why the winner wins, the front, the rungs, what W cost, and how sure the winner is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bort.report.drawing import Canvas, Drawing, canvas, finish
from bort.report.formatting import big, figure, percent, tick
from bort.report.reading import Findings, Record, candidate_curve, is_number
from bort.report.theme import LIGHT
from bort.search.w import error_for

#: Keeps a name legible where it lies over dots and lines.
HALO = {"facecolor": LIGHT["paper"], "edgecolor": "none", "pad": 1.0, "alpha": 0.85}


def search_figures(findings: Findings) -> list[Drawing]:
    """Returns every figure of the search that the result has the data for."""
    drawn = [draw(findings) for draw in (why, front, rungs, cost, sensitivity)]
    return [drawing for drawing in drawn if drawing is not None]


def why(findings: Findings) -> Drawing | None:
    """Error against savings, with lines of equal W: the winner lies on the highest line that any candidate reaches."""
    complete = [item for item in findings.complete if findings.savings(item) is not None]
    if len(complete) < 2 or not findings.reciprocal:
        return None
    winner = findings.winner
    with canvas(height=3.9) as drawn:
        axes = drawn.axes[0]
        x = [float(findings.savings(item) or 0.0) for item in complete]
        y = [float(item["error"]) for item in complete]
        x_low, x_high = _margin(x, 0.08)
        y_low, y_high = _margin(y, 0.1)
        x_high = min(x_high, 1.0 + 0.02 * (x_high - x_low))
        axes.set_xlim(x_low, x_high)
        axes.set_ylim(y_low, y_high)
        _equal_w(axes, float(winner["w"]), (x_low, x_high, y_low, y_high))
        _scatter(drawn, axes, findings, complete, x, y)
        place = (float(findings.savings(winner) or 0.0), float(winner["error"]))
        _star(axes, *place, str(winner["name"]), [pair for pair in zip(x, y, strict=True) if pair != place])
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value:.0%}")
        axes.set_xlabel("saved: share of parameters × share of latency, against the maximum point T   (more is better →)")
        axes.set_ylabel("error e   (← less is better)")
        axes.grid(visible=False)
        best = min(complete, key=lambda item: float(item["error"]))
        text = (
            f"Each dot is one of {len(complete)} candidates. W is the saving divided by the error, so each grey line joins points "
            f"of equal W, and better lies to the lower right. {winner['name']} reaches W = {figure(winner['w'])}, the highest; "
            f"the smallest error belongs to {best['name']} (e = {figure(best['error'])}, W = {figure(best.get('w'))})."
        )
        return finish(drawn, "why", "Why the winner wins: error against what is saved", text)


def front(findings: Findings) -> Drawing | None:
    """Error against parameters and against latency, with the Pareto front."""
    complete = findings.complete
    if len(complete) < 2:
        return None
    measured = findings.measured_latency
    winner = findings.winner
    with canvas(2, height=3.5, sharey=True) as drawn:
        for axes, key, name in zip(
            drawn.axes,
            ("parameters", "latency"),
            ("parameters p", "latency i (ms)" if measured else "multiply-adds i"),
            strict=True,
        ):
            shown = [item for item in complete if is_number(item.get(key))]
            x, y = [float(item[key]) for item in shown], [float(item["error"]) for item in shown]
            axes.set_xscale("log")
            _stairs(axes, x, y)
            _scatter(drawn, axes, findings, shown, x, y)
            _star(axes, float(winner[key]), float(winner["error"]), "")
            axes.set_xlabel(f"{name}   (← less is better)")
            _log_ticks(axes, x, tick)
        drawn.axes[0].set_ylabel("error e   (← less is better)")
        _legend(drawn, findings)
        count = len(findings.search.get("front") or [])
        text = (
            f"Error of {len(complete)} candidates against parameters (left) and latency (right), both on a logarithmic scale. "
            f"The green rings are the {count} candidates that no other beats in all three of p, i and e at once; "
            "the green line is the front of each picture alone. The star is the winner."
        )
        return finish(drawn, "front", "Error against size and against latency", text)


def rungs(findings: Findings) -> Drawing | None:
    """The error of every candidate at each rung of training."""
    curves = [(item, candidate_curve(item)) for item in findings.candidates]
    curves = [(item, curve) for item, curve in curves if curve]
    steps = sorted({step for _, curve in curves for step, _ in curve})
    if len(steps) < 2 or len(curves) < 2:
        return None
    winner = findings.winner.get("name")
    with canvas(height=3.5) as drawn:
        axes = drawn.axes[0]
        axes.set_xscale("log", base=2)
        for item, curve in curves:
            if item.get("name") == winner:
                continue
            dropped = item.get("state") != "complete"
            line = axes.plot(*zip(*curve, strict=True), color=LIGHT["faint"], linewidth=0.9, alpha=0.8, zorder=2)[0]
            drawn.hint(line, f"{item['name']}: {_path(curve)}{', dropped' if dropped else ''}")
            if dropped:
                axes.plot(*curve[-1], marker="x", color=LIGHT["bad"], markersize=4.5, markeredgewidth=1.1, zorder=3)
        for item, curve in curves:
            if item.get("name") == winner:
                axes.plot(*zip(*curve, strict=True), color=LIGHT["student"], linewidth=2, marker="o", markersize=4, zorder=5)
                axes.annotate(
                    str(winner),
                    curve[-1],
                    xytext=(-4, -11),
                    textcoords="offset points",
                    ha="right",
                    color=LIGHT["student"],
                    weight="bold",
                    bbox=HALO,
                )
        axes.set_xticks(steps, [f"{step:,.0f}" for step in steps])
        axes.minorticks_off()
        axes.set_xlabel("training steps")
        axes.set_ylabel("error e   (← less is better)")
        dropped = sum(item.get("state") == "pruned" for item, _ in curves)
        text = f"The error of each candidate after {_series(steps)} steps; the winner in blue. " + (
            f"{dropped} candidates were dropped before the last rung, where a cross ends their line. "
            if dropped
            else "Every candidate was trained to the last rung. "
        )
        return finish(drawn, "rungs", "The rungs: error after more and more training", text + _rank_words(findings))


def cost(findings: Findings) -> Drawing | None:
    """The best W so far against training steps spent."""
    rows = [row for row in findings.search.get("history") or [] if is_number(row.get("trained_steps")) and is_number(row.get("w"))]
    if len(rows) < 2:
        return None
    x, y = [float(row["trained_steps"]) for row in rows], [float(row["w"]) for row in rows]
    exhaustive = findings.search.get("exhaustive_steps")
    with canvas(height=2.9) as drawn:
        axes = drawn.axes[0]
        axes.step(x, y, where="post", color=LIGHT["student"], linewidth=1.8)
        for row, a, b in zip(rows, x, y, strict=True):
            drawn.hint(
                axes.plot(a, b, "o", color=LIGHT["student"], markersize=4.5)[0],
                f"{row['name']}: W = {figure(b)} after {a:,.0f} steps",
            )
        if is_number(exhaustive) and x[-1] < float(exhaustive) <= 4 * x[-1]:
            axes.axvline(float(exhaustive), color=LIGHT["faint"], linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                "exhaustive search",
                (float(exhaustive), y[0]),
                xytext=(-4, 2),
                textcoords="offset points",
                ha="right",
                color=LIGHT["muted"],
            )
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}")
        axes.set_xlabel("training steps spent, over all candidates")
        axes.set_ylabel("best W so far")
        # Of equal W, a later row names the winner.
        first = next(row for row in rows if (row["w"], row.get("name")) == (rows[-1]["w"], rows[-1].get("name")))
        share = "."
        if is_number(exhaustive) and exhaustive:
            part = f"{percent(x[-1] / exhaustive)} of what the exhaustive search costs"
            share = f", {part if x[-1] < exhaustive else 'as it tried everything'}."
        text = (
            f"The best W so far as training steps are spent. The winner was found after {first['trained_steps']:,.0f} steps; "
            f"the search ended at {x[-1]:,.0f}{share}"
        )
        return finish(drawn, "cost", "What the best W cost", text)


def sensitivity(findings: Findings) -> Drawing | None:
    """The winner for each power to which the error could be raised in W."""
    record = findings.search.get("sensitivity") or {}
    rows = [row for row in record.get("exponents") or [] if is_number(row.get("exponent")) and row.get("winner")]
    if len(rows) < 2:
        return None
    # The smallest model at the bottom: high powers ask for small errors and so for large models.
    size = {str(item["name"]): float(item["parameters"]) for item in findings.candidates}
    names = sorted({str(row["winner"]) for row in rows}, key=lambda name: size.get(name, 0.0))
    with canvas(height=1.15 + 0.3 * len(names)) as drawn:
        axes = drawn.axes[0]
        axes.set_xscale("log", base=2)
        half = math.sqrt(float(rows[1]["exponent"]) / float(rows[0]["exponent"]))
        for name, first, last in _runs(rows):
            low, high = float(first["exponent"]) / half, float(last["exponent"]) * half
            colour = LIGHT["student"] if name == findings.winner.get("name") else LIGHT["faint"]
            bar = axes.barh(names.index(name), high - low, left=low, height=0.62, color=colour)[0]
            drawn.hint(bar, f"{name} wins for powers of e from {figure(first['exponent'], 2)} to {figure(last['exponent'], 2)}")
        axes.axvline(1.0, color=LIGHT["ink"], linewidth=1)
        axes.set_yticks(range(len(names)), names)
        ticks = [value for value in (0.25, 0.5, 1.0, 2.0, 4.0) if rows[0]["exponent"] <= value <= rows[-1]["exponent"]]
        axes.set_xticks(ticks, ["¼", "½", "1", "2", "4"][-len(ticks) :] if len(ticks) == 5 else [f"{value:g}" for value in ticks])
        axes.minorticks_off()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("power of the error in W   (1 is the paper's)")
        stable = record.get("stable")
        words = (
            f"The winner stays the same for every power from {figure(stable[0], 2)} to {figure(stable[1], 2)}."
            if isinstance(stable, Sequence) and len(stable) == 2 and stable[0] != stable[1]
            else "The winner changes with the next power tried on either side."
        )
        others = (
            f" Over the range shown, {len(names)} architectures win."
            if len(names) > 1
            else " No other architecture wins anywhere in the range shown."
        )
        return finish(drawn, "sensitivity", "Would another weight of the error change the winner?", words + others)


def _runs(rows: Sequence[Record]) -> list[tuple[str, Record, Record]]:
    """Returns each unbroken run of exponents with the same winner, as (winner, first row, last row)."""
    found: list[tuple[str, Record, Record]] = []
    for row in rows:
        name = str(row["winner"])
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1], row)
        else:
            found.append((name, row, row))
    return found


def _scatter(drawn: Canvas, axes: Any, findings: Findings, items: Sequence[Record], x: Sequence[float], y: Sequence[float]) -> None:
    fronts = {row.get("name") for row in findings.search.get("front") or []}
    for item, a, b in zip(items, x, y, strict=True):
        on = item.get("name") in fronts
        dot = axes.plot(
            a,
            b,
            "o",
            color=LIGHT["faint"],
            markersize=5.4 if on else 4.4,
            markerfacecolor=LIGHT["faint"],
            markeredgecolor=LIGHT["front"] if on else LIGHT["faint"],
            markeredgewidth=1.5 if on else 0.6,
            zorder=4,
        )[0]
        drawn.hint(dot, f"{item['name']}: p = {big(item['parameters'])}, e = {figure(item['error'])}, W = {figure(item.get('w'))}")


def _star(axes: Any, x: float, y: float, name: str, others: Sequence[tuple[float, float]] = ()) -> None:
    axes.plot(x, y, marker="*", markersize=15, color=LIGHT["student"], markeredgecolor=LIGHT["paper"], zorder=6)
    if name:
        right, up = _clear_side(axes, (x, y), len(name), others)
        axes.annotate(
            name,
            (x, y),
            xytext=(9 if right else -9, 7 if up else -14),
            textcoords="offset points",
            ha="left" if right else "right",
            color=LIGHT["student"],
            weight="bold",
            zorder=7,
            bbox=HALO,
        )


def _clear_side(axes: Any, point: tuple[float, float], letters: int, others: Sequence[tuple[float, float]]) -> tuple[bool, bool]:
    """Returns on which side of a point (right, up) a name hides the fewest other points; off the axes counts as hiding many."""
    scale = axes.figure.dpi / 72
    width, height = 5.6 * letters * scale, 20 * scale
    x, y = axes.transData.transform(point)
    dots = [axes.transData.transform(other) for other in others]
    box = axes.bbox

    def hidden(side: tuple[bool, bool]) -> int:
        left = x if side[0] else x - width - 12 * scale
        low = y if side[1] else y - height
        count = sum(
            left - 4 < a < left + width + 12 * scale and low - 6 < b < low + height + 6 for a, b in dots if (a, b) != (x, y)
        )
        outside = left < box.x0 or left + width > box.x1 or low < box.y0 or low + height > box.y1
        return int(count) + 100 * outside

    return min(((False, False), (True, False), (False, True), (True, True)), key=hidden)


def _equal_w(axes: Any, best: float, box: tuple[float, float, float, float]) -> None:
    """Draw the rays of equal W, the winner's among them, and label each where it leaves the axes."""
    x_low, x_high, y_low, y_high = box
    x_low = max(x_low, 0.0)
    for share in (0.7, 0.8, 0.9, 1.0, 1.1, 1.2):
        w = best * share
        own = share == 1.0
        slope = error_for(w, 1.0)
        axes.plot(
            [x_low, x_high],
            [x_low * slope, x_high * slope],
            color=LIGHT["student"] if own else LIGHT["faint"],
            linewidth=1.3 if own else 0.8,
            linestyle=(0, (5, 3)) if own else "-",
            zorder=1,
            scalex=False,
            scaley=False,
        )
        end = min(x_high, y_high / slope)
        if x_low < end and y_low < end * slope <= y_high:
            inside = end == x_high
            axes.annotate(
                f"W = {figure(w)}",
                (end, end * slope),
                xytext=(4, 0) if inside else (0, 3),
                textcoords="offset points",
                va="center" if inside else "bottom",
                ha="left" if inside else "center",
                fontsize=7.5,
                color=LIGHT["student"] if own else LIGHT["muted"],
                annotation_clip=False,
            )


def _stairs(axes: Any, x: Sequence[float], y: Sequence[float]) -> None:
    best, steps = math.inf, []
    for a, b in sorted(zip(x, y, strict=True)):
        if b < best:
            steps.append((a, b))
            best = b
    axes.step(*zip(*steps, strict=True), where="post", color=LIGHT["front"], linewidth=1.2, zorder=2)


def _log_ticks(axes: Any, values: Sequence[float], words: Any) -> None:
    """Marks a logarithmic axis at round numbers: 1, 2 and 5 of each power of ten, or finer where that gives too few."""
    low, high = min(values), max(values)
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)):
        ticks = [d * 10.0**power for power in range(int(math.log10(low)) - 1, int(math.log10(high)) + 2) for d in digits]
        ticks = [tick for tick in ticks if low * 0.97 <= tick <= high * 1.03]
        if len(ticks) >= 3:
            break
    axes.set_xticks(ticks, [words(tick) for tick in ticks])
    axes.minorticks_off()


def _legend(drawn: Canvas, findings: Findings) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D(
            [],
            [],
            marker="*",
            linestyle="",
            markersize=11,
            color=LIGHT["student"],
            label=f"winner {findings.winner.get('name', '')}",
        ),
        Line2D([], [], marker="o", linestyle="", color=LIGHT["faint"], markeredgecolor=LIGHT["front"], label="on the front"),
        Line2D([], [], marker="o", linestyle="", color=LIGHT["faint"], markersize=4.4, label="other candidate"),
    ]
    drawn.figure.legend(handles=marks, loc="outside upper center", ncols=3, fontsize=8, handletextpad=0.3)


def _margin(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    space = (high - low or abs(high) or 1.0) * share
    return low - space, high + space


def _path(curve: Sequence[tuple[float, float]]) -> str:
    return " → ".join(figure(error) for _, error in curve)


def _series(steps: Sequence[float]) -> str:
    words = [f"{step:,.0f}" for step in steps]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _rank_words(findings: Findings) -> str:
    correlation = findings.search.get("correlation") or {}
    tau, between = correlation.get("kendall_tau"), correlation.get("between") or []
    if not is_number(tau) or len(between) != 2:
        return ""
    return f"The order after {between[0]:,} steps agrees with that after {between[1]:,} with a rank correlation of τ = {tau:.2f}."
