from __future__ import annotations

import pytest

from bort.errors import BortError
from bort.tasks.label_encoding import label_order
from bort.tasks.task import Task


def task(kind="classification", labels=("contradiction", "entailment", "neutral")):
    return Task("nli", kind, list(labels) if kind == "classification" else [], ["accuracy"], [], [], [])


def test_labels_are_matched_by_name_whatever_their_order_and_case():
    assert label_order({0: "entailment", 1: "neutral", 2: "contradiction"}, task()) == [2, 0, 1]
    assert label_order({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}, task()) == [0, 2, 1]


@pytest.mark.parametrize(
    "names",
    [
        {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"},
        {0: "entailment", 1: "not_entailment"},
        {0: "entailment", 1: "neutral", 2: "contradiction", 3: "other"},
        {0: "entailment", 1: "neutral", 2: "contradiction", 3: "Neutral"},
    ],
)
def test_other_labels_are_refused(names):
    with pytest.raises(BortError, match=r"The labeller's labels \(.*\) are not those of task nli"):
        label_order(names, task(), what="The labeller")


def test_case_tells_labels_apart_where_nothing_else_does():
    assert label_order({0: "us", 1: "US"}, task(labels=("US", "us"))) == [1, 0]


@pytest.mark.parametrize("kind", ["regression", "choice"])
def test_a_task_without_classes_needs_one_output(kind):
    assert label_order({0: "score"}, task(kind)) == [0]
    with pytest.raises(BortError, match=f"has 2 outputs and task nli is a {kind}"):
        label_order({0: "no", 1: "yes"}, task(kind))
