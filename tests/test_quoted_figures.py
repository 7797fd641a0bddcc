"""Tables of figures in the documentation are those of the records they name: every line is made again and looked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RELEASED, PUBLISHED = "⟨4, 8, 1024, 768⟩", "⟨4, 8, 768, 1024⟩"
LABELS = {
    "bert-large": "BERT-large",
    "roberta-large": "RoBERTa-large",
    "bert-base": "BERT-base",
    "distilbert": "DistilBERT",
    "tinybert-6": "TinyBERT-6",
    "bert-medium": "BERT-medium",
    "mobilebert": "MobileBERT",
    "minilm-l12-h384": "MiniLM-L12",
    "bort": f"Bort {RELEASED}",
    "bort-published": f"Bort {PUBLISHED}",
    "bert-small": "BERT-small",
    "minilm-l6-h384": "MiniLM-L6",
    "bort-second": "Bort, second shape ⟨2, 16, 1024, 512⟩",
    "tinybert-4": "TinyBERT-4",
    "bert-mini": "BERT-mini",
    "bert-tiny": "BERT-tiny",
}
SHAPES = {"bort": RELEASED, "bort-published": PUBLISHED}
TASKS = {"glue/cola": "CoLA", "glue/sst2": "SST-2", "glue/mrpc": "MRPC", "rotten_tomatoes": "Rotten Tomatoes"}
OTHER_ARMS = ("random", "distill", "paper")
#: What the README leaves to the page.
LEFT_OUT = {"tinybert-6", "bert-medium", "bert-mini", "bert-tiny"}
#: Measured twice.
AGAIN = "exported to ONNX at least as fast as eager"
VERDICTS = {True: "met", False: "not met", None: "not decided"}


def record(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "measurements" / f"{name}.json").read_text(encoding="utf-8"))["figures"]


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def ratio(found: dict[str, float], digits: int) -> str:
    return f"{found['ratio']:.{digits}f}× [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def over(figures: dict[str, Any], model: str, backend: str, over_model: str, batch: int = 1, tokens: int = 128) -> dict[str, float]:
    """Returns how many times as fast as an eager model one is."""
    wanted = (model, backend, over_model, "eager", batch, tokens)
    names = ("model", "backend", "over_model", "over_backend", "batch", "sequence_length")
    (found,) = [item for item in figures["ratios"] if tuple(item[name] for name in names) == wanted]
    return found


def medians(figures: dict[str, Any], model: str, batch: int = 1, tokens: int = 128) -> list[str]:
    cell = (model, batch, tokens)
    return [milliseconds(row["p50_ms"]) for row in figures["rows"] if (row["model"], row["batch"], row["sequence_length"]) == cell]


def published(left_out: set[str]) -> list[str]:
    """One line for each model, the slowest first."""
    figures = record("latency")
    lines = []
    for model, label in LABELS.items():
        if model in left_out:
            continue
        eager = "1" if model == "bert-large" else ratio(over(figures, model, "eager", "bert-large"), 1)
        quickest = ratio(over(figures, model, "int8", "bert-large"), 1)
        if model in SHAPES:
            quickest = f"**{quickest}**"
        busy = " (busy)" if figures["models"][model]["busy"] else ""
        lines.append(line(label + busy, *medians(figures, model), eager, quickest))
    return lines


def asked() -> list[str]:
    """One line for each thing that is asked of both shapes, and what the second record says of it."""
    found = {
        name: {(row["model"], row["target"]): f"{ratio(row, 2)}, {VERDICTS[row['met']]}" for row in record(name)["targets"]}
        for name in ("latency", "lengths")
    }
    targets = dict.fromkeys(target for _, target in found["latency"])
    lines = []
    for target in targets:
        lines.append(line(target.removeprefix("exported to "), *(found["latency"][shape, target] for shape in SHAPES)))
        if target == AGAIN:
            lines.append(line("the same in `lengths.json`", *(found["lengths"][shape, target] for shape in SHAPES)))
    return lines


def lengths() -> list[str]:
    """One line for each shape, batch and length."""
    figures = record("lengths")
    cells = dict.fromkeys((row["batch"], row["sequence_length"]) for row in figures["rows"])
    return [
        line(
            str(batch),
            str(tokens),
            medians(figures, "bert-base", batch, tokens)[0],
            SHAPES[shape],
            *medians(figures, shape, batch, tokens),
            ratio(over(figures, shape, "onnx", shape, batch, tokens), 2),
            ratio(over(figures, shape, "eager", "bert-base", batch, tokens), 1),
            ratio(over(figures, shape, "int8", "bert-base", batch, tokens), 1),
        )
        for batch, tokens in cells
        for shape in SHAPES
    ]


def served() -> list[str]:
    """One line for each shape, mix of lengths and form: the medians of the three ways, and the third over the first."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in record("serving")["serving"]:
        rows.setdefault((row["model"], row["mix"], row["backend"]), {})[row["way"]] = row
    lines = []
    for (model, mix, form), ways in rows.items():
        padded, single, planned = (ways[way] for way in ("padded", "one by one", "planned"))
        times = [f"{milliseconds(way['p50_ms'])} ms" for way in (padded, single, planned)]
        times[-1] += f", {planned['calls']} calls"
        faster = ratio(planned["faster"], 2)
        enough = faster if planned["faster"]["low"] < 1.5 else f"**{faster}**"
        padding = f"{100 * (padded['computed_tokens'] / padded['tokens'] - 1):.0f} %"
        lines.append(line(SHAPES[model], mix, {"onnx": "ONNX", "int8": "int8"}[form], padding, *times, enough))
    return lines


def signed(found: dict[str, float]) -> str:
    return f"{found['mean']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]".replace("-", "−")


def agora() -> list[str]:
    """One line for each task and size, what each arm has more than plain fine-tuning, and the mean of all."""
    figures = record("agora")
    settings = {(row["task"], row["size"]): row for row in figures["settings"]}
    lines = []
    for (task, size), row in sorted(settings.items(), key=lambda item: (list(TASKS).index(item[0][0]), item[0][1])):
        scores = [f"{row['scores'][arm]['mean']:.1f}".replace("-", "−") for arm in ("plain", "agora")]
        ahead = [signed(row["differences"][arm]) for arm in ("agora", *OTHER_ARMS)]
        refused = f"{row['refused']} of {len(figures['seeds'])}"
        lines.append(line(TASKS[task], f"{size:,}", f"{row['majority']:.1f}", *scores, *ahead, refused))
    overall = figures["overall"]
    means = [signed(overall[arm]) for arm in OTHER_ARMS]
    return [*lines, line("**mean of all**", "", "", "", "", f"**{signed(overall['agora'])}**", *means, "")]


@pytest.mark.parametrize(
    ("page", "lines"),
    [
        pytest.param("README.md", lambda: published(LEFT_OUT), id="readme"),
        pytest.param("README.md", agora, id="agora"),
        pytest.param("docs/latency.md", lambda: published(set()), id="published"),
        pytest.param("docs/latency.md", asked, id="asked"),
        pytest.param("docs/latency.md", lengths, id="lengths"),
        pytest.param("docs/latency.md", served, id="served"),
    ],
)
def test_the_table_is_that_of_its_record(page: str, lines: Callable[[], list[str]]) -> None:
    shown = (ROOT / page).read_text(encoding="utf-8")
    table = "\n".join(lines())
    assert f"|\n{table}\n\n" in shown, f"{page} should hold this table:\n{table}"


def test_every_model_of_the_record_has_its_line_the_slowest_first() -> None:
    eager = {row["model"]: row["p50_ms"] for row in record("latency")["rows"] if row["backend"] == "eager"}
    assert sorted(eager, key=lambda model: -eager[model]) == list(LABELS)
