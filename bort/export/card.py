"""The model card: what a model is, where it came from, how good it is, and what is not known about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FORMS = {
    "transformers": ("transformers directory", "float32"),
    "onnx": ("ONNX", "float32, any batch and length"),
    "optimised": ("ONNX, optimised for ONNX Runtime", "float32"),
    "int8": ("ONNX, int8", ""),
}


def model_card(facts: Mapping[str, Any]) -> str:
    """Returns the README.md of a model, with the metadata block of the Hugging Face hub.

    Everything is optional, and a section without facts is left out.

    Args:
        facts: ``name``; ``licence``; ``language``; ``class`` (transformers class); ``encoder`` (whether it has no head); ``size``
            (a row of :func:`bort.measure.sizes.size_table`); ``teacher`` {name, architecture, licence, parameters, digest};
            ``corpus`` {name, tokens, digest, licence}; ``search`` {strategy, space, candidates, winner, w}; ``distillation``
            {objective, steps, tokens, heldout: {figure: value}}; ``task`` {name, seeds, examples, metrics: {name: {mean, low,
            high}}, baselines: {model: {metric: value}}}; ``cost`` {stage: {seconds, processor_seconds} or seconds};
            ``latency`` (sentences); ``forms`` (those of :func:`bort.export.export_model`);
            ``commands`` (that reproduce it); ``versions`` {package: version}; ``limits`` (sentences).
    """
    metadata = _metadata(facts, str(facts.get("name") or "Bort student"))
    # Names and labels come from files and models of others.
    facts = {key: value if key == "commands" else _escaped(value) for key, value in facts.items()}
    sections = [
        metadata,
        f"# {facts.get('name') or 'Bort student'}\n",
        _introduction(facts),
        _model(facts),
        _training(facts),
        _scores(facts.get("task")),
        _list("Latency", facts.get("latency")),
        _files(facts.get("forms")),
        _usage(facts),
        _cost(facts.get("cost")),
        _list("Limits", [*(facts.get("limits") or []), *_unknown(facts)]),
        _commands(facts),
    ]
    return "\n".join(section for section in sections if section)


def _escaped(value: Any) -> Any:
    """Escape texts for one line of Markdown: no markup, link, image, table cell or block of theirs is rendered.

    Args:
        value: A text, or mappings and sequences that hold texts, keys included; other values are returned as they are.
    """
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(item) for item in value]
    if not isinstance(value, str):
        return value
    # An underscore between letters is no markup, and fields are named with it.
    text = re.sub(r"[\\`*\[\]<>|~&]|:(?=//)|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", _line(value))
    # At the start of a line these open a heading or a list.
    return re.sub(r"^(\d+(?=[.)]( |$))|(?=[-+#]))", r"\g<0>\\", text)


def _line(text: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _metadata(facts: Mapping[str, Any], name: str) -> str:
    teacher, corpus, task = (facts.get(key) or {} for key in ("teacher", "corpus", "task"))
    fields: dict[str, Any] = {
        "license": facts.get("licence") or "unknown",
        "language": facts.get("language"),
        "library_name": "transformers",
        "pipeline_tag": _pipeline(str(facts.get("class") or "")),
        "base_model": teacher.get("name"),
        "base_model_relation": "finetune" if teacher.get("name") else None,
        "datasets": [corpus["name"]] if corpus.get("name") else None,
        "tags": ["bort", "distillation", "onnx"],
    }
    results = [
        {"type": metric, "value": figures.get("mean"), "name": metric}
        for metric, figures in (task.get("metrics") or {}).items()
        if figures.get("mean") is not None
    ]
    if results:
        task_fields = {"type": "text-classification"}
        dataset = {"name": task.get("name", "task"), "type": task.get("name", "task")}
        fields["model-index"] = [{"name": name, "results": [{"task": task_fields, "dataset": dataset, "metrics": results}]}]
    # JSON is YAML: quoting is then right whatever a name holds, other than line breaks that only YAML knows.
    lines = [f"{key}: {_line(json.dumps(value, ensure_ascii=False))}" for key, value in fields.items() if value is not None]
    return "\n".join(["---", *lines, "---", ""])


def _pipeline(name: str) -> str:
    if name.endswith("ForSequenceClassification"):
        return "text-classification"
    if name.endswith("ForMultipleChoice"):
        return "multiple-choice"
    return "fill-mask" if name.endswith("ForMaskedLM") else "feature-extraction"


def _introduction(facts: Mapping[str, Any]) -> str:
    size, teacher, task = (facts.get(key) or {} for key in ("size", "teacher", "task"))
    sentence = f"A {size['architecture']} encoder" if size.get("architecture") else "An encoder"
    if size.get("total"):
        sentence += f" of {_count(size['total'])} parameters"
    if teacher.get("name"):
        sentence += f", distilled from {teacher['name']}"
        if teacher.get("parameters"):
            sentence += f" ({_count(teacher['parameters'])} parameters)"
    if task.get("name"):
        sentence += f" and fine-tuned on {task['name']}"
    return f"{sentence}. Made with [Bort](https://arxiv.org/abs/2010.10499): optimal subarchitecture extraction.\n"


def _model(facts: Mapping[str, Any]) -> str:
    size = facts.get("size") or {}
    rows = [
        ("Architecture ⟨depth, heads, hidden, intermediate⟩", size.get("architecture")),
        ("transformers class", facts.get("class")),
        ("Parameters", _count(size.get("total"))),
        ("of these, embeddings", _count(size.get("embedding"))),
        ("of these, encoder layers", _count(size.get("encoder"))),
        ("Multiply-adds at 128 tokens", _count(size.get("operations"))),
        ("Licence", facts.get("licence") or "not stated: that of the teacher and of the texts apply"),
    ]
    return _table("Model", ("", ""), [row for row in rows if row[1]])


def _training(facts: Mapping[str, Any]) -> str:
    teacher, corpus, distillation = (facts.get(key) or {} for key in ("teacher", "corpus", "distillation"))
    rows = [
        ("Teacher", _with_digest(teacher)),
        ("Teacher's architecture", teacher.get("architecture")),
        ("Teacher's licence", teacher.get("licence")),
        ("Corpus", _with_digest(corpus)),
        ("Corpus tokens", _count(corpus.get("tokens"))),
        ("Corpus's licence", corpus.get("licence")),
        ("Architecture chosen", _choice(facts.get("search") or {})),
        ("Objective", distillation.get("objective")),
        ("Steps", distillation.get("steps")),
        ("Tokens trained on", _count(distillation.get("tokens"))),
        *((f"Held-out {name.replace('_', ' ')}", _figure(value)) for name, value in (distillation.get("heldout") or {}).items()),
    ]
    rows = [row for row in rows if row[1] not in (None, "")]
    return _table("Training", ("", ""), rows) if rows else ""


def _scores(task: Mapping[str, Any] | None) -> str:
    if not task or not task.get("metrics"):
        return ""
    baselines = task.get("baselines") or {}
    rows = []
    for metric, figures in task["metrics"].items():
        interval = f"{_figure(figures.get('low'))} – {_figure(figures.get('high'))}" if figures.get("low") is not None else ""
        others = [_figure((values or {}).get(metric)) for values in baselines.values()]
        rows.append((metric, _figure(figures.get("mean")), interval, *others))
    title = f"Scores on {task.get('name', 'the task')}"
    if task.get("seeds"):
        title += f", mean of {len(task['seeds'])} seeds on {task.get('examples') or ''} held-out examples".replace("  ", " ")
    return _table(title, ("Metric", "Mean", "Interval", *baselines), rows)


def _files(forms: Mapping[str, Mapping[str, Any]] | None) -> str:
    rows = []
    for name, form in (forms or {}).items():
        title, what = _FORMS.get(name, (name, ""))
        if name == "int8":
            what = f"{form['quantised']} in 8 bits"
        if form.get("accepted") is not None:
            lost = f"loses {form['lost']:.2f} points of {form['metric']} on {form['examples']} held-out examples"
            note = lost if form["accepted"] else f"not kept: {lost}"
        elif name == "int8":
            note = "not judged by a task"
        else:
            note = f"differs from torch by at most {form['difference']:.1e}"
        rows.append((title, what, f"{form['bytes'] / 1e6:.1f} MB", note))
    return _table("Forms", ("Form", "Weights", "Size", "Checked"), rows) if rows else ""


def _usage(facts: Mapping[str, Any]) -> str:
    auto = {
        "text-classification": "AutoModelForSequenceClassification",
        "fill-mask": "AutoModelForMaskedLM",
        "feature-extraction": "AutoModel",
        "multiple-choice": "AutoModelForMultipleChoice",
    }[_pipeline(str(facts.get("class") or ""))]
    call = ['output = model(**tokenizer("A sentence to read.", return_tensors="pt"))']
    if auto == "AutoModelForMultipleChoice":
        call = [
            'inputs = tokenizer(["A passage."] * 2, ["One option.", "Another."], padding=True, return_tensors="pt")',
            "output = model(**{name: value.unsqueeze(0) for name, value in inputs.items()})",
        ]
    lines = [
        "## Use",
        "",
        "```python",
        f"from transformers import {auto}, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/directory")',
        f'model = {auto}.from_pretrained("path/to/this/directory")',
        *call,
        "```",
        "",
    ]
    return "\n".join(lines)


def _cost(cost: Mapping[str, Any] | None) -> str:
    rows = []
    for stage, spent in (cost or {}).items():
        figures = spent if isinstance(spent, Mapping) else {"seconds": spent}
        rows.append((stage, _figure(figures.get("seconds")), _figure(figures.get("processor_seconds"))))
    return _table("Cost", ("Stage", "Seconds", "Processor-seconds"), rows) if rows else ""


def _unknown(facts: Mapping[str, Any]) -> list[str]:
    """Returns what a reader should be told is missing."""
    sentences = []
    if not facts.get("licence"):
        sentences.append("No licence was stated when this model was exported.")
    if not (facts.get("task") or {}).get("metrics") and not facts.get("encoder"):
        sentences.append("No task score was given when this model was exported.")
    return sentences


def _commands(facts: Mapping[str, Any]) -> str:
    parts = []
    if facts.get("commands"):
        commands = [str(command) for command in facts["commands"]]
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", "\n".join(commands)))])
        parts += ["## How to make it again", "", f"{fence}sh", *commands, fence, ""]
    if facts.get("versions"):
        parts += ["Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + ".", ""]
    return "\n".join(parts)


def _list(title: str, sentences: Iterable[Any] | None) -> str:
    lines = [f"- {sentence}" for sentence in sentences or []]
    return "\n".join([f"## {title}", "", *lines, ""]) if lines else ""


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell or "") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, ""])


def _choice(search: Mapping[str, Any]) -> str:
    if not search.get("winner"):
        return ""
    return (
        f"{search['winner']}: the largest W ({_figure(search.get('w'))}) of {search.get('candidates')} trained candidates in a "
        f"space of {search.get('space')}, strategy {search.get('strategy')}"
    )


def _with_digest(source: Mapping[str, Any]) -> str:
    if not source.get("name"):
        return ""
    return f"{source['name']} (digest `{source['digest'][:12]}`)" if source.get("digest") else str(source["name"])


def _count(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:g}"


def _figure(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.4g}"
    return "" if value is None else str(value)
