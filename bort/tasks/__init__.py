"""Labelled data: GLUE, SuperGLUE, RACE and a user's own; metrics, baselines, intervals and submission files."""

from __future__ import annotations

from bort.tasks.config import HubConfig, TaskConfig
from bort.tasks.labels import label_order
from bort.tasks.load import load_task
from bort.tasks.sources import source_digests
from bort.tasks.submission import write_submission, zip_submissions
from bort.tasks.task import Example, Task

__all__ = [
    "Example",
    "HubConfig",
    "Task",
    "TaskConfig",
    "label_order",
    "load_task",
    "source_digests",
    "write_submission",
    "zip_submissions",
]
