from __future__ import annotations

import pytest

from bort.errors import ConfigurationError
from bort.settings import check_settings
from bort.tasks.config import TaskConfig
from bort.tasks.load import load_task


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"kind": "ranking"}, "task.kind"),
        ({"text": "a,b,c"}, "task.text"),
        ({"text": []}, "task.text"),
        ({"metrics": ["pearson"]}, "task.metrics"),
        ({"labels": ["yes"]}, "task.labels"),
        ({"steering": 0.0}, "task.steering"),
        ({"heldout": 1.5}, "task.heldout"),
        ({"train_examples": 0}, "task.train_examples"),
        ({"malformed": "mend"}, "task.malformed"),
        ({"kind": "regression", "labels": ["a", "b"]}, "task.labels"),
        ({"train": "a.xlsx"}, "task.train"),
        ({"train": "absent.csv"}, "task.train"),
        ({"train": None}, "task.train"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change, key):
    with pytest.raises(ConfigurationError) as caught:
        load_task(TaskConfig(**{"train": "absent.csv", **change}))
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"kind": "choice"}, "task.options"),
        ({"kind": "choice", "options": "a,a"}, "task.options"),
        ({"options": "a,b"}, "task.options"),
        ({"metrics": ["gender_parity"]}, "task.metrics"),
        ({"kind": "choice", "options": "a,b", "metrics": ["f1"]}, "task.metrics"),
        ({"format": "squad"}, "task.format"),
        ({"path": "hub"}, "task.path"),
        ({"truncate": "left"}, "task.truncate"),
        ({"keep": "middle"}, "task.keep"),
        ({"keep": "end"}, "task.keep"),
        ({"keep": "end", "truncate": "first", "windows": 2}, "task.keep"),
        ({"windows": 0}, "task.windows"),
        ({"windows": 2, "text": "a,b"}, "task.truncate"),
        ({"windows": 2, "overlap": 126}, "task.overlap"),
        ({"margin": -1.0}, "task.margin"),
        ({"train_options": 1}, "task.train_options"),
        ({"unlabelled_text": "a,b,c"}, "task.unlabelled_text"),
        ({"name": "../elsewhere"}, "task.name"),
        ({"name": ".."}, "task.name"),
        ({"submission": "/tmp/CoLA.tsv"}, "task.submission"),
    ],
)
def test_settings_of_other_kinds_that_cannot_be_used_are_named(change, key):
    with pytest.raises(ConfigurationError) as caught:
        check_settings(TaskConfig(**{"train": "absent.csv", **change}), "task")
    assert caught.value.key == key
