from __future__ import annotations

import json
import re

import pytest

from bort.errors import BortError, ConfigurationError
from bort.tasks.config import TaskConfig
from bort.tasks.load import load_task


def choice_rows(count=40, **changes):
    return [
        {
            "context": f"story {i}",
            "ask": f"what stood there {i}",
            "a": f"kettle {i}",
            "b": f"ladder {i}",
            "c": "none",
            "right": "abc"[i % 3],
        }
        | changes
        for i in range(count)
    ]


def choice_table(tmp_path, rows, name="choice.csv"):
    path = tmp_path / name
    path.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n", encoding="utf-8")
    return str(path)


def choice(train, **changes):
    settings = {"kind": "choice", "text": "context,ask", "options": "a,b,c", "label": "right", **changes}
    return load_task(TaskConfig(train=train, **settings))


@pytest.mark.parametrize(
    ("rights", "labels"),
    [
        (["a", "b", "c"], None),
        (["A", "B", "C"], None),
        (["0", "1", "2"], None),
        (["0.0", "1.0", "2.0"], None),
        (["1", "2", "3"], ["1", "2", "3"]),
        (["left", "middle", "last"], ["left", "middle", "last"]),
    ],
)
def test_a_choice_from_columns_by_column_letter_number_or_given_order(rights, labels, tmp_path):
    rows = [row | {"right": rights[i % 3]} for i, row in enumerate(choice_rows())]
    task = choice(choice_table(tmp_path, rows), labels=labels)
    assert (task.outputs, task.metrics, task.labels) == (1, ["accuracy"], [])
    for example in task.train:
        number = int(example.texts[0].split()[1])
        assert example.label == number % 3
        assert task.sequences(example)[0] == (f"story {number}", f"what stood there {number} kettle {number}")


def test_a_choice_by_the_text_of_the_right_option_and_from_a_list(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"q": f"which {i}", "options": [f"x {i}", f"y {i}", "z", "w"][: 2 + i % 3], "answer": f"y {i}"} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = load_task(TaskConfig(train=str(path), kind="choice", text="q", options="options", label="answer"))
    assert {len(example.options) for example in task.train} == {2, 3, 4}
    assert all(example.label == 1 for example in task.train)
    assert task.sequences(task.train[0])[1] == (task.train[0].texts[0], task.train[0].options[1])


def test_an_option_takes_the_place_of_the_placeholder(tmp_path):
    rows = [row | {"ask": "there stood a ___ today"} for row in choice_rows()]
    task = choice(choice_table(tmp_path, rows), placeholder="___")
    assert task.sequences(task.train[0])[2][1] == "there stood a none today"


@pytest.mark.parametrize(
    ("right", "labels", "said"),
    [
        ("d", None, "'d' under 'right' is none of the 3 options"),
        ("3", None, "its letter from A or its number from 0 is needed, and task.labels"),
        ("-1", None, "'-1' under 'right' is none of the 3 options"),
        ("9" * 5000, None, "is none of the 3 options"),
        ("4", ["1", "2", "3"], "one of 1, 2, 3 is needed"),
        ("", None, "the label under 'right' is missing"),
    ],
)
def test_a_right_option_that_is_none_is_refused(right, labels, said, tmp_path):
    rows = [row | {"right": (labels or ["0"])[0]} for row in choice_rows(12)]
    rows[7]["right"] = right
    with pytest.raises(BortError, match=re.escape(said)) as caught:
        choice(choice_table(tmp_path, rows), labels=labels)
    assert "choice.csv, line 9" in str(caught.value)


def test_missing_options_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"task\.options=d .* which has 'context', 'ask', 'a', 'b', 'c', 'right'"):
        choice(choice_table(tmp_path, choice_rows()), options="a,b,d")
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": "which", "options": "x", "answer": 0}) + "\n", encoding="utf-8")
    with pytest.raises(BortError, match="line 1: no list of texts under 'options'"):
        load_task(TaskConfig(train=str(path), kind="choice", text="q", options="options", label="answer"))


def test_one_option_is_no_choice(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": "which", "options": ["x"], "answer": 0}) + "\n", encoding="utf-8")
    with pytest.raises(BortError, match="line 1: one option under 'options', where at least two are needed"):
        load_task(TaskConfig(train=str(path), kind="choice", text="q", options="options", label="answer"))


def test_a_label_that_may_mean_two_options_is_refused(tmp_path):
    rows = [row | {"a": "2", "b": "0", "c": "1", "right": i % 3} for i, row in enumerate(choice_rows())]
    with pytest.raises(BortError, match=r"'0' under 'right' is the text of option 1 and the number of option 0 \(from 0\)"):
        choice(choice_table(tmp_path, rows))
    task = choice(choice_table(tmp_path, rows), labels=["0", "1", "2"])
    assert all(example.label == int(example.texts[0].split()[1]) % 3 for example in task.train)
