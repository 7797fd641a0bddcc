"""Ready-made views of the run table, so that MLflow's page opens on what can be compared and not on an empty table.

MLflow keeps a shared view as a tag of the experiment, ``mlflow.sharedViewState.<key>``, opened by ``?viewStateShareKey=<key>``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

_TAG = "mlflow.sharedViewState."
_NOTE = "mlflow.note.content"


@dataclass(frozen=True)
class View:
    """A view of the run table.

    Args:
        title: What its link says.
        filter: Which runs it shows, in MLflow's search language.
        order: The metric by which they stand, the largest first.
        metrics: Columns.
        params: Further columns.
    """

    title: str
    filter: str
    order: str
    metrics: tuple[str, ...]
    params: tuple[str, ...] = ()

    def state(self) -> str:
        """Returns the view as MLflow's page reads it."""
        columns = [
            "attributes.`Created`",
            *(f"metrics.`{name}`" for name in self.metrics),
            *(f"params.`{name}`" for name in self.params),
        ]
        order = {"orderByKey": f"metrics.`{self.order}`", "orderByAsc": False}
        return json.dumps({"searchFilter": self.filter, **order, "selectedColumns": columns})


#: MLflow sets columns in the order of the alphabet, so each view has only as many as can be seen at once.
VIEWS = {
    "candidates": View("candidates by W", "metrics.error >= 0", "w", ("error", "operations", "parameters", "w")),
    "searches": View(
        "searches",
        "tags.`bort.stage` = 'search'",
        "winner/w",
        ("trained_steps", "winner/error", "winner/parameters", "winner/w"),
        ("strategy", "winner"),
    ),
    "students": View(
        "students on held-out text",
        "params.objective != ''",
        "heldout/mlm_accuracy",
        ("heldout/cross_entropy", "heldout/mlm_accuracy", "heldout/relation_kl", "processor_seconds"),
        ("architecture", "objective", "steps"),
    ),
    "tasks": View(
        "task scores",
        "params.encoder != ''",
        "heldout/accuracy",
        ("heldout/accuracy", "heldout/f1", "heldout/mcc"),
        ("encoder", "learning_rate"),
    ),
    "chains": View(
        "whole chains",
        "tags.`bort.stage` = 'reproduce'",
        "winner/w",
        ("seconds", "student/accuracy", "teacher/accuracy", "winner/parameters"),
        ("task", "winner"),
    ),
}

#: The page shows the first line; the rest unfolds.
_ABOUT = """Compare {links}

Runs of **bort**: a parent run for each chain, a child for each stage, a grandchild for each candidate and model."""


def experiment_tags(experiment_id: str, present: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags to set so that an experiment has its views, and a description with a link to each.

    Args:
        experiment_id: The experiment.
        present: The tags that it has. A description that somebody else wrote is left alone.
    """
    links = [
        f"[{view.title}](#/experiments/{experiment_id}/runs?viewStateShareKey={key}&workflowType=machine_learning)"
        for key, view in VIEWS.items()
    ]
    wanted = {
        # Spares the user a question when the page is opened first.
        "mlflow.experimentKind": "custom_model_development",
        _NOTE: _ABOUT.format(links=" · ".join(links)),
        **{_TAG + key: view.state() for key, view in VIEWS.items()},
    }
    if "viewStateShareKey=" not in present.get(_NOTE, "viewStateShareKey="):
        del wanted[_NOTE]
    return {name: value for name, value in wanted.items() if present.get(name) != value}
