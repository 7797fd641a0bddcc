"""The guard of the label order: two models, or a model and a task, are matched by the names of their labels, never by position.

TinyBERT's users lost their MNLI to a teacher that ordered the three labels otherwise than the student.
"""

from __future__ import annotations

from collections.abc import Mapping

from bort.errors import BortError
from bort.tasks.task import Task


def label_order(names: Mapping[int, str], task: Task, *, what: str = "The model") -> list[int]:
    """Returns the model's output for each class of the task; names are compared without regard to case.

    Args:
        names: The model's ``id2label``.
        task: The task.
        what: What the message calls the model.

    Raises:
        BortError: The model has other labels than the task, or another number of outputs.
    """
    if task.kind != "classification":
        if len(names) != 1:
            kind = "regression" if task.kind == "regression" else "choice"
            raise BortError(f"{what} has {len(names)} outputs and task {task.name} is a {kind}, which needs one.")
        return [0]
    positions = {str(name): int(index) for index, name in names.items()}
    wanted = [str(label) for label in task.labels]
    if set(positions) != set(wanted):
        positions = {name.casefold(): index for name, index in positions.items()}
        wanted = [label.casefold() for label in wanted]
    if set(positions) != set(wanted) or len(positions) != len(names) or len(set(wanted)) != len(wanted):
        theirs, ours = ", ".join(sorted(str(name) for name in names.values())), ", ".join(task.labels)
        raise BortError(f"{what}'s labels ({theirs}) are not those of task {task.name} ({ours}); name the latter with task.labels.")
    return [positions[name] for name in wanted]
