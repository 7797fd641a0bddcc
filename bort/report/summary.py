"""The sentence and the key figures at the top: what was found, readable in twenty seconds."""

from __future__ import annotations

from html import escape

from bort.report.formatting import big, duration, figure, percent, score, times
from bort.report.reading import TITLES, Findings, is_number
from bort.report.replay_figures import in_short


def headline(findings: Findings) -> str:
    """Returns what was found, in one or two sentences of plain text."""
    sentences = [sentence for sentence in (_size_and_speed(findings), _task(findings)) if sentence]
    if sentences:
        return " ".join(sentences)
    return _other(findings)


def headline_html(findings: Findings) -> str:
    """Returns the page's heading, with the shape set apart, and the sentence below it."""
    first, then, shape = _size_and_speed(findings), _task(findings), findings.shape
    text = escape(first or then or _other(findings))
    if shape:
        text = text.replace(escape(shape), f'<span class="shape">{escape(shape)}</span>', 1)
    return f"<h1>{text}</h1>" + (f'<p class="lede">{escape(then)}</p>' if first and then else "")


def tiles(findings: Findings) -> str:
    """Returns the key figures as a list of terms, those that the result has."""
    found = [tile for tile in (_tile_size(findings), _tile_speed(findings), *_tile_task(findings), _tile_search(findings)) if tile]
    if not found:
        return ""
    rows = "".join(
        f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class="more">{escape(more)}</dd></div>'
        for name, value, more in found
    )
    return f'<dl class="tiles">{rows}</dl>'


def _size_and_speed(findings: Findings) -> str:
    shape, smaller, faster = findings.shape, findings.smaller, findings.faster()
    if shape is None:
        return ""
    parts = []
    if smaller is not None:
        parts.append(f"{times(smaller)} smaller")
    if faster is not None:
        parts.append(f"{times(faster['ratio'])} faster")
    won = f"{shape} wins" if findings.winner.get("name") == shape else f"The student {shape} is trained"
    if not parts:
        if not findings.winner:
            return ""
        return f"{shape} wins among {len(findings.complete)} candidates with W = {figure(findings.winner.get('w'))}."
    return f"{won}: {' and '.join(parts)} than its teacher."


def _task(findings: Findings) -> str:
    if not findings.metrics:
        return ""
    metric = findings.metrics[0]
    student, teacher, twin = (findings.score(role, metric) for role in ("student", "teacher", "twin"))
    if student is None:
        return ""
    words = f"On {findings.task_name} it scores {score(student.mean, metric)} {metric.replace('_', ' ')}"
    others = []
    if teacher is not None:
        others.append(f"its teacher {score(teacher.mean, metric)}")
    if twin is not None:
        others.append(f"the same shape trained without a teacher {score(twin.mean, metric)}")
    return f"{words}{', ' + ' and '.join(others) if others else ''}."


def _other(findings: Findings) -> str:
    student = findings.heldout("student")
    if student:
        name, value = next(iter(student.items()))
        return f"A student was distilled; on held-out text its {name.replace('_', ' ')} is {figure(value)}."
    rows = [row for row in findings.benchmark.get("rows") or [] if is_number(row.get("p50_ms"))]
    if rows:
        fastest = min(rows, key=lambda row: float(row["p50_ms"]))
        return f"{fastest['model']} on {fastest['backend']} is the fastest, {figure(fastest['p50_ms'])} ms a call."
    return in_short(findings.replays) or f"The {findings.name} stage is done."


Tile = tuple[str, str, str] | None


def _tile_size(findings: Findings) -> Tile:
    if findings.smaller is None:
        return None
    student, teacher = findings.parameters("student"), findings.parameters("teacher")
    more = f"{big(student)} parameters" + (f", teacher {big(teacher)}" if teacher else "")
    return "smaller than the teacher", times(findings.smaller), more


def _tile_speed(findings: Findings) -> Tile:
    ratio = findings.faster()
    if ratio is None:
        return None
    onnx = findings.faster("onnx")
    return (
        "faster than the teacher",
        times(ratio["ratio"]),
        f"PyTorch, batch {ratio['batch']}, {ratio['sequence_length']} tokens" + (f"; ONNX {times(onnx['ratio'])}" if onnx else ""),
    )


def _tile_task(findings: Findings) -> list[Tile]:
    if not findings.metrics:
        return []
    metric = findings.metrics[0]
    student, teacher, twin = (findings.score(role, metric) for role in ("student", "teacher", "twin"))
    if student is None:
        return []
    found: list[Tile] = []
    if teacher is not None and teacher.mean:
        more = f"{metric.replace('_', ' ')} on {findings.task_name}"
        found.append(("of the teacher's score kept", percent(student.mean / teacher.mean, 0), more))
    if twin is not None:
        gain = f"{100 * (student.mean - twin.mean):+.1f}".replace("-", "−")
        found.append((f"points over the {TITLES['twin']}", gain, f"{metric.replace('_', ' ')}, same shape"))
    return found


def _tile_search(findings: Findings) -> Tile:
    if not findings.complete:
        return None
    seconds = findings.seconds.get("search")
    tried, whole = len(findings.candidates), len(findings.complete)
    parts = [
        f"{whole} of them to the end" if whole < tried else "",
        f"best W = {figure(findings.winner.get('w'))}",
        f"in {duration(seconds)}" if seconds else "",
    ]
    return "candidates tried", str(tried), ", ".join(part for part in parts if part)
