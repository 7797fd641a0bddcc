"""Figures of replayed searches: how often each strategy finds the exhaustive winner, and what it loses where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bort.report.drawing import Canvas, Drawing, canvas, finish
from bort.report.formatting import percent
from bort.report.html import Cell, figure, paragraph, section, table
from bort.report.reading import is_number
from bort.report.theme import LIGHT

Row = Mapping[str, Any]

COLOURS = {
    "bound": LIGHT["student"],
    "ose": LIGHT["twin"],
    "tpe": LIGHT["teacher"],
    "nsga2": LIGHT["front"],
    "random": LIGHT["muted"],
}

MARKERS = {"bound": "o", "ose": "s", "tpe": "^", "nsga2": "D", "random": "v"}

#: What is drawn side by side: key of a row, and title.
PANELS = {"success": "found the exhaustive winner", "near": "came within 1 % of its W", "regret": "mean regret in W"}

_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def replay_figures(result: Mapping[str, Any]) -> list[Drawing]:
    """Returns a figure for each kind of table that was replayed, the drawn ones first."""
    drawn = []
    for kind in ("drawn", "measured"):
        rows = [row for row in result.get("rows") or [] if row.get("table") == kind and _usable(row)]
        if len({row["budget"] for row in rows}) > 1:
            drawn.append(_figure(kind, rows, result))
    return drawn


def _usable(row: Row) -> bool:
    return all(is_number((row.get(name) or {}).get("value")) for name in PANELS) and row.get("strategy") in COLOURS


def _figure(kind: str, rows: Sequence[Row], result: Mapping[str, Any]) -> Drawing:
    strategies = list(dict.fromkeys(str(row["strategy"]) for row in rows))
    with canvas(len(PANELS), height=3.5) as drawn:
        for axes, (name, title) in zip(drawn.axes, PANELS.items(), strict=True):
            axes.set_xscale("log")
            # The first strategy is what the figure is about: it lies above the others.
            for place, strategy in enumerate(reversed(strategies)):
                _line(drawn, axes, [row for row in rows if row["strategy"] == strategy], name, place)
            shares = [float(row["cost"]["mean"]) for row in rows]
            ticks = [tick for tick in _TICKS if 0.95 * min(shares) <= tick <= 1.05 * max(shares)]
            axes.set_xticks(ticks, [f"{100 * tick:.3g}" for tick in ticks])
            axes.minorticks_off()
            axes.set_title(title)
            axes.set_ylim(-0.03, 1.03)
        _regret_axis(drawn.axes[-1], max(float(row["regret"]["high"]) for row in rows))
        for axes in drawn.axes[:-1]:
            axes.yaxis.set_major_formatter(lambda value, _position: f"{100 * value:.3g} %")
        drawn.figure.supxlabel("training steps spent, in % of the exhaustive search", fontsize=8.5, color=LIGHT["muted"])
        _legend(drawn, strategies)
        name = "replay" if kind == "drawn" else "replay_measured"
        return finish(drawn, name, f"Strategies at equal cost, on {kind} tables", _words(kind, rows, strategies, result))


def _regret_axis(axes: Any, highest: float) -> None:
    """Makes an axis on which regrets of a thousandth and of a tenth can both be read, and 0 as well."""
    axes.set_yscale("symlog", linthresh=_TICKS[0], linscale=0.6)
    axes.set_ylim(0.0, max(highest * 1.15, 2 * _TICKS[0]))
    ticks = [0.0, *(tick for tick in _TICKS if tick <= highest * 1.15)]
    axes.set_yticks(ticks, [f"{100 * tick:.3g} %" for tick in ticks])
    axes.minorticks_off()


def _line(drawn: Canvas, axes: Any, rows: Sequence[Row], name: str, place: int) -> None:
    strategy = str(rows[0]["strategy"])
    colour = COLOURS[strategy]
    x = [float(row["cost"]["mean"]) for row in rows]
    y, low, high = ([float(row[name][key]) for row in rows] for key in ("value", "low", "high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0, zorder=2)
    main = place == 4 or strategy == "bound"
    axes.plot(x, y, color=colour, linewidth=2.0 if main else 1.3, zorder=3 + place)
    for row, a, b, c, d in zip(rows, x, y, low, high, strict=True):
        dot = axes.plot(a, b, MARKERS[strategy], color=colour, markersize=5 if main else 4, zorder=4 + place)[0]
        drawn.hint(
            dot,
            f"{strategy}, {percent(row['budget'], 0)} allowed, {percent(a)} spent: {PANELS[name]} {percent(b, 2)} "
            f"({percent(c, 2)} to {percent(d, 2)}), {row['replays']} replays",
        )


def _legend(drawn: Canvas, strategies: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=COLOURS[name], marker=MARKERS[name], markersize=5, linewidth=2 if name == "bound" else 1.3, label=name)
        for name in strategies
    ]
    drawn.figure.legend(handles=marks, loc="outside upper center", ncols=len(marks), fontsize=8.5, handletextpad=0.5)


def _words(kind: str, rows: Sequence[Row], strategies: Sequence[str], result: Mapping[str, Any]) -> str:
    confidence = percent((result.get("settings") or {}).get("confidence", 0.95), 0)
    bench = result.get("benchmark") or {}
    first = strategies[0]
    budget = next((row["budget"] for row in rows if row["budget"] >= 0.1), rows[-1]["budget"])
    shares = {row["strategy"]: row["success"]["value"] for row in rows if row["budget"] == budget}
    others = ", ".join(f"{name} in {percent(shares[name], 0)}" for name in strategies[1:] if name in shares)
    where = (
        "each replay has a table of its own, drawn from the seeds that were measured"
        if kind == "drawn"
        else "all replays have the measured table, on which a strategy that draws nothing is replayed once"
    )
    return (
        f"Up to {max(row['replays'] for row in rows)} replays of each strategy at each budget on a table of "
        f"{bench.get('candidates', '?')} architectures; {where}. Bands are {confidence} intervals. Each point lies at the mean of "
        f"what was really spent, which is less than the budget where a strategy stops by itself. With {percent(budget, 0)} of the "
        f"exhaustive steps {first} found the exhaustive winner in {percent(shares.get(first), 0)} of replays"
        f"{', ' + others if others else ''}."
    )


HEAD = [
    "strategy", "tables", "budget", "spent", "replays", "found the winner", "interval", "within 1 %", "mean regret", "interval",
]  # fmt: skip


def in_short(result: Mapping[str, Any]) -> str:
    """Returns one sentence on the first strategy at a tenth of the steps, or at the first budget above; empty without replays."""
    rows = [row for row in result.get("rows") or [] if is_number((row.get("near") or {}).get("value"))]
    row = next((row for row in rows if row["strategy"] == rows[0]["strategy"] and row["budget"] >= 0.1), None)
    if row is None:
        return ""
    return (
        f"With {percent(row['budget'], 0)} of the exhaustive steps {row['strategy']} found the exhaustive winner in "
        f"{percent(row['success']['value'], 0)} of replays, and one within 1 % of its W in {percent(row['near']['value'], 0)}."
    )


def replays(result: Mapping[str, Any], drawn: Mapping[str, Drawing]) -> str:
    """The figures and every cell of a result of ``bort benchmark search``; empty where there is none."""
    rows = [
        [
            Cell(str(row["strategy"])),
            Cell(str(row["table"])),
            Cell(percent(row["budget"], 0), row["budget"]),
            Cell(percent(row["cost"]["mean"]), row["cost"]["mean"]),
            Cell(f"{row['replays']:,}", row["replays"]),
            *_interval(row.get("success"), 1),
            Cell(percent((row.get("near") or {}).get("value"))),
            *_interval(row.get("regret"), 2),
        ]
        for row in result.get("rows") or []
        if is_number((row.get("cost") or {}).get("mean"))
    ]
    if not rows:
        return ""
    return section(
        "replays",
        "Search strategies compared",
        [
            paragraph(_section_words(result.get("benchmark") or {})),
            figure(drawn.get("replay")),
            figure(drawn.get("replay_measured")),
            table("Every strategy at every budget", HEAD, rows, kind="tall"),
        ],
    )


def _interval(value: Mapping[str, Any] | None, digits: int) -> list[Cell]:
    value = value or {}
    bounds = f"{percent(value.get('low'), digits)} to {percent(value.get('high'), digits)}"
    return [Cell(percent(value.get("value"), digits), value.get("value")), Cell(bounds, value.get("low"))]


def _section_words(bench: Mapping[str, Any]) -> str:
    if not bench:
        return ""
    winner, drawn = bench.get("winner") or {}, bench.get("drawn_winners") or {}
    words = (
        f"The table holds {bench.get('candidates', 0):,} architectures at {len(bench.get('rungs') or [])} rungs. Its exhaustive "
        f"winner is {winner.get('name')}"
    )
    words += f", {percent(bench['margin'], 2)} ahead of the next best. " if is_number(bench.get("margin")) else ". "
    if drawn:
        words += (
            f"In the drawn tables {len(drawn)} architectures win at least once; training with another seed alone moves the winner, "
            "so the share of replays that find it cannot be told without the regret."
            if len(drawn) > 1
            else "It wins in every drawn table."
        )
    return words
