"""The published scores on the task that was fine-tuned for, to stand beside our own."""

from __future__ import annotations

from bort.measure.published import GLUE, GLUE_TASKS, SUPER_GLUE, SUPER_GLUE_TASKS
from bort.report.html import Cell, table
from bort.report.reading import TITLES, Findings
from bort.report.student_figures import ORDER
from bort.report.words import DASH

#: Our names of tasks that the leaderboards call otherwise.
_NAMES = {"mnli": "mnli_matched"}
_CAPTION = (
    "Published test scores on {name}, in points, beside ours, which are held-out examples of the training or development set: "
    "they can be compared roughly at best"
)


def published(findings: Findings) -> str:
    """Returns the table of published models on the task at hand, with ours in it; empty for a task without any."""
    suite, name = findings.suite_and_task
    name = _NAMES.get(name, name)
    tasks, models = (GLUE_TASKS, GLUE) if suite == "glue" else (SUPER_GLUE_TASKS, SUPER_GLUE)
    if not suite or name not in tasks:
        return ""
    metrics = tasks[name]
    cells = [
        [Cell(model.model), *(Cell(f"{value:.1f}", value) for value in model.tasks[name]), Cell(f"{model.source}, {model.trust}")]
        for model in models
    ]
    for role in ORDER:
        scores = [findings.score(role, metric) for metric in metrics]
        if any(scores):
            own = [Cell(f"{100 * score.mean:.1f}", 100 * score.mean) if score else Cell(DASH) for score in scores]
            cells.append([Cell(f"ours: {TITLES[role]}", strong=role == "student"), *own, Cell("this run")])
    head = ["model", *(metric.replace("_", " ") for metric in metrics), "source, and how it came here"]
    return table(_CAPTION.format(name=findings.task_name), head, cells, kind="words")
