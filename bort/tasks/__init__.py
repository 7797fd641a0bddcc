"""Labelled data: single texts and pairs, classes and regression, their metrics, their baselines and their intervals."""

from __future__ import annotations

from bort.tasks.config import TaskConfig
from bort.tasks.load import load_task
from bort.tasks.task import Example, Task

__all__ = ["Example", "Task", "TaskConfig", "load_task"]
