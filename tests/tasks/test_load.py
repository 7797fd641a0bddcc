from __future__ import annotations

import gzip
import json
import random
import re

import pytest

from bort.errors import BortError, ConfigurationError
from bort.tasks import TaskConfig, load_task
from bort.tasks.split import text_key


class Warnings:
    def __init__(self):
        self.said = []

    def warn(self, message):
        self.said.append(message)

    def progress(self, *_):
        pass

    def metrics(self, *_):
        pass


def write(path, rows, header=("text", "label")):
    path.write_text("\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return str(path)


def rows(count=100):
    return [(f"sentence number {index}", index % 2) for index in range(count)]


def texts(examples):
    return {example.texts for example in examples}


def test_one_file_is_split_in_proportion_and_stratified(tmp_path):
    task = load_task(TaskConfig(train=write(tmp_path / "a.csv", rows())))
    assert [len(split) for split in (task.train, task.steering, task.heldout)] == [70, 10, 20]
    for split in (task.train, task.steering, task.heldout):
        assert sum(example.label for example in split) == len(split) / 2
    assert (task.labels, task.metrics, task.outputs) == (["0", "1"], ["accuracy"], 2)


def test_splits_depend_on_texts_and_seed_not_on_the_order_of_the_file(tmp_path):
    shuffled = rows()
    random.Random(1).shuffle(shuffled)
    here = load_task(TaskConfig(train=write(tmp_path / "a.csv", rows())))
    there = load_task(TaskConfig(train=write(tmp_path / "b.csv", shuffled)))
    other = load_task(TaskConfig(train=write(tmp_path / "a.csv", rows()), seed=1))
    assert here.digest == there.digest
    assert texts(here.heldout) != texts(other.heldout)


def test_spellings_of_one_text_stay_in_one_split(tmp_path):
    doubled = [(spelling.format(index), index % 2) for index in range(60) for spelling in ("a film, no {}", "A  Film no {} !")]
    for seed in range(3):
        task = load_task(config(tmp_path, doubled, seed))
        keys = [{text_key(example) for example in split} for split in (task.train, task.steering, task.heldout)]
        assert not keys[0] & keys[1]
        assert not keys[0] & keys[2]
        assert not keys[1] & keys[2]


def config(tmp_path, content, seed):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in content), encoding="utf-8")
    return TaskConfig(train=str(path), seed=seed)


def test_fewer_train_examples_are_a_subset_and_leave_the_other_splits_alone(tmp_path):
    path = write(tmp_path / "a.csv", rows(400))
    whole = load_task(TaskConfig(train=path))
    many = load_task(TaskConfig(train=path, train_examples=100))
    few = load_task(TaskConfig(train=path, train_examples=20))
    assert texts(few.train) < texts(many.train) < texts(whole.train)
    assert few.heldout == whole.heldout
    assert few.steering == whole.steering
    assert sum(example.label for example in few.train) == 10


def test_shares_may_be_numbers_of_examples(tmp_path):
    task = load_task(TaskConfig(train=write(tmp_path / "a.csv", rows()), steering=7, heldout=13))
    assert (len(task.steering), len(task.heldout), len(task.train)) == (7, 13, 80)


def test_train_texts_that_are_judged_elsewhere_leave_train_with_a_warning(tmp_path):
    train = write(tmp_path / "train.csv", [*rows(40), ("Sentence NUMBER 1000!", 0)])
    test = write(tmp_path / "test.csv", [("sentence number 1000", 0), ("sentence number 1001", 1)])
    warnings = Warnings()
    task = load_task(TaskConfig(train=train, test=test), warnings)
    assert len(task.heldout) == 2
    assert not {text_key(example) for example in task.train} & {text_key(example) for example in task.heldout}
    assert "1 examples" in warnings.said[0]
    assert task.source["overlapping"] == 1


def test_labels_have_names_and_an_order(tmp_path):
    path = write(tmp_path / "a.csv", rows())
    task = load_task(TaskConfig(train=path, labels={"1": "good", "0": "bad"}))
    assert task.labels == ["good", "bad"]
    odd = next(example for example in task.train if int(example.texts[0].split()[-1]) % 2)
    assert odd.label == 0


def test_numeric_labels_are_ordered_as_numbers(tmp_path):
    many = [(f"sentence {index}", (index % 3) * 5) for index in range(60)]
    assert load_task(TaskConfig(train=write(tmp_path / "a.csv", many))).labels == ["0", "5", "10"]


def test_pairs_from_json_lines_and_compressed_files(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for index in range(50):
            file.write(json.dumps({"a": f"left {index}", "b": f"right {index}", "same": index % 2 == 0}) + "\n")
    task = load_task(TaskConfig(train=str(path), text="a, b", label="same"))
    assert task.labels == ["false", "true"]
    assert all(len(example.texts) == 2 for example in task.train)


def test_filter_keeps_matching_rows(tmp_path):
    content = [(f"sentence {index}", index % 2, "here" if index < 50 else "there") for index in range(100)]
    path = write(tmp_path / "a.csv", content, ("text", "label", "source"))
    task = load_task(TaskConfig(train=path, filter={"source": "here"}))
    assert len(task.train) + len(task.steering) + len(task.heldout) == 50


def test_quoted_fields_with_newlines_and_delimiters(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "text,label\n" + "".join(f'"line {index},\nsecond ""line""",{index % 2}\n' for index in range(30)), encoding="utf-8"
    )
    task = load_task(TaskConfig(train=str(path)))
    assert all('\nsecond "line"' in example.texts[0] for example in task.train)


def test_files_in_glue_layouts(tmp_path):
    lines = [f'gj04\t{index % 2}\t{"" if index % 2 else "*"}\tA "sentence\rnumber {index}.' for index in range(40)]
    (tmp_path / "train.tsv").write_bytes("\n".join(lines).encode())
    (tmp_path / "dev.tsv").write_bytes(b"gj04\t1\t\tHeld out one.\ngj04\t0\t*\tHeld out two.\n")
    task = load_task(
        TaskConfig(
            path=str(tmp_path),
            train="train.tsv",
            test="dev.tsv",
            header=False,
            text=["3"],
            label="1",
            metrics=["matthews_correlation"],
        )
    )
    assert len(task.train) + len(task.steering) == 40
    assert [example.texts[0] for example in task.heldout if example.label == 1] == ["Held out one."]
    marked = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + "".join(
        f"{i % 2}\t1\t2\tleft {i}\tright {i}\n" for i in range(30)
    )
    (tmp_path / "train.tsv").write_text(marked, encoding="utf-8")
    pair = load_task(
        TaskConfig(train=str(tmp_path / "train.tsv"), text=["#1 String", "#2 String"], label="Quality", metrics=["f1"])
    )
    assert pair.heldout[0].texts[0].startswith("left")


def test_malformed_rows_are_refused_or_skipped(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(
        "id\ttext\tlabel\n" + "".join(f"{i}\tsentence {i}\t{i % 2}\n" for i in range(30)) + "99\tbroken\n", encoding="utf-8"
    )
    with pytest.raises(BortError, match=r"line 32: 2 columns where 3 are needed"):
        load_task(TaskConfig(train=str(path)))
    warnings = Warnings()
    load_task(TaskConfig(train=str(path), malformed="skip"), warnings)
    assert "1 malformed" in warnings.said[0]


def test_regression_targets(tmp_path):
    path = write(tmp_path / "a.csv", [(f"sentence {i}", i / 10) for i in range(50)])
    task = load_task(TaskConfig(train=path, kind="regression"))
    assert (task.outputs, task.metrics, task.labels) == (1, ["pearson"], [])
    bad = write(tmp_path / "b.csv", [(f"sentence {i}", i / 10) for i in range(50)] + [("one more", "high")])
    with pytest.raises(BortError, match=r"b\.csv, line 52: the regression target 'high' under 'label' is not a number"):
        load_task(TaskConfig(train=bad, kind="regression"))


def test_an_absent_column_is_named_with_those_at_hand(tmp_path):
    path = write(tmp_path / "a.csv", rows())
    with pytest.raises(ConfigurationError, match=r"task\.text=sentence .* has no such column, it has 'text', 'label'"):
        load_task(TaskConfig(train=path, text="sentence"))
    with pytest.raises(ConfigurationError, match=r"task\.label=class"):
        load_task(TaskConfig(train=path, label="class"))


def test_unknown_labels_are_refused(tmp_path):
    train = write(tmp_path / "train.csv", rows())
    test = write(tmp_path / "test.csv", [("something new", 2)])
    with pytest.raises(
        BortError, match=r"test\.csv, line 2 \(task\.test\): the label '2' under 'label' is not in train, which has 0, 1"
    ):
        load_task(TaskConfig(train=train, test=test))
    with pytest.raises(BortError, match=r"the label '1' under 'label' is not in task\.labels \(0, 2\)"):
        load_task(TaskConfig(train=train, labels=["0", "2"]))


def test_a_declared_label_that_train_never_has_is_refused(tmp_path):
    train = write(tmp_path / "train.csv", rows())
    test = write(tmp_path / "test.csv", [("something new", 2)])
    with pytest.raises(BortError, match=r"the label '2' stands in held-out but not in train"):
        load_task(TaskConfig(train=train, test=test, labels=["0", "1", "2"]))


def test_empty_splits_and_files_are_refused(tmp_path):
    with pytest.raises(BortError, match=r"the steering split is empty \(train 4, steering 0, held-out 1\)"):
        load_task(TaskConfig(train=write(tmp_path / "a.csv", rows(5))))
    with pytest.raises(ConfigurationError, match="it has no rows"):
        load_task(TaskConfig(train=write(tmp_path / "b.csv", [])))
    path = write(tmp_path / "c.csv", [(*row, "there") for row in rows()], ("text", "label", "source"))
    with pytest.raises(ConfigurationError, match="it has no rows with source=here"):
        load_task(TaskConfig(train=path, filter={"source": "here"}))
    (tmp_path / "d.csv").write_text("")
    with pytest.raises(BortError, match="is empty"):
        load_task(TaskConfig(train=str(tmp_path / "d.csv")))


def test_one_label_is_not_a_classification(tmp_path):
    with pytest.raises(BortError, match="train has only the label '1'"):
        load_task(TaskConfig(train=write(tmp_path / "a.csv", [(f"sentence {i}", 1) for i in range(50)])))


def test_a_wrong_layout_shows_the_expected_one(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(
        ConfigurationError, match=r"there is no train\.tsv; this layout is expected:\n.*data/\n  train\.tsv\n  dev\.tsv"
    ):
        load_task(TaskConfig(path=str(tmp_path / "data"), train="train.tsv", test="dev.tsv"))


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


def test_text_that_is_not_utf8_is_one_sentence(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    with pytest.raises(BortError, match="cannot be read as UTF-8 text"):
        load_task(TaskConfig(train=str(tmp_path / "a.csv")))


def test_f1_needs_two_labels(tmp_path):
    path = write(tmp_path / "a.csv", [(f"sentence {i}", i % 3) for i in range(60)])
    with pytest.raises(ConfigurationError, match="use macro_f1"):
        load_task(TaskConfig(train=path, metrics=["f1"]))


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
    with pytest.raises(ConfigurationError, match=r"task\.options=d .* it has 'context', 'ask', 'a', 'b', 'c', 'right'"):
        choice(choice_table(tmp_path, choice_rows()), options="a,b,d")
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": "which", "options": "x", "answer": 0}) + "\n", encoding="utf-8")
    with pytest.raises(BortError, match="line 1: no list of texts under 'options'"):
        load_task(TaskConfig(train=str(path), kind="choice", text="q", options="options", label="answer"))


def test_extra_columns_in_a_row_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(30)) + "one, two,1\n", encoding="utf-8")
    with pytest.raises(BortError, match=r"line 32: 3 columns where 2 are needed"):
        load_task(TaskConfig(train=str(path)))
    path.write_text("text,label\n" + "".join(f"sentence {i},{i % 2},\n" for i in range(30)), encoding="utf-8")
    assert len(load_task(TaskConfig(train=str(path))).train) == 21


def test_an_unlabelled_file_of_the_users_own_needs_no_label(tmp_path):
    train = write(tmp_path / "train.csv", rows())
    (tmp_path / "new.csv").write_text("name,text\nfirst,something new\nsecond,something else\n", encoding="utf-8")
    config = TaskConfig(train=train, unlabelled=str(tmp_path / "new.csv"), id="name")
    assert not load_task(config).unlabelled
    found = load_task(config, training=False).unlabelled
    assert [(example.index, example.labelled) for example in found] == [("first", False), ("second", False)]
    without = load_task(TaskConfig(train=train, unlabelled=str(tmp_path / "new.csv")), training=False).unlabelled
    assert [example.index for example in without] == ["0", "1"]


def test_a_missing_label_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", [*rows(), ("a sentence without", " ")])
    with pytest.raises(BortError, match=r"a\.csv, line 102 \(task\.train\): the label under 'label' is missing"):
        load_task(TaskConfig(train=path))


def test_groups_of_the_users_own_stay_together(tmp_path):
    content = [(f"sentence {i}", i % 2, f"g{i // 4}") for i in range(120)]
    path = write(tmp_path / "a.csv", content, ("text", "label", "group"))
    task = load_task(TaskConfig(train=path, group="group", metrics=["question_exact_match"]))
    groups = [{example.group for example in split} for split in (task.train, task.steering, task.heldout)]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


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
        ({"windows": 0}, "task.windows"),
        ({"windows": 2, "text": "a,b"}, "task.truncate"),
        ({"windows": 2, "overlap": 126}, "task.overlap"),
        ({"margin": -1.0}, "task.margin"),
        ({"train_options": 1}, "task.train_options"),
        ({"unlabelled_text": "a,b,c"}, "task.unlabelled_text"),
    ],
)
def test_settings_of_other_kinds_that_cannot_be_used_are_named(change, key):
    with pytest.raises(ConfigurationError) as caught:
        TaskConfig(**{"train": "absent.csv", **change}).check()
    assert caught.value.key == key


def test_a_label_that_may_mean_two_options_is_refused(tmp_path):
    rows = [row | {"a": "2", "b": "0", "c": "1", "right": i % 3} for i, row in enumerate(choice_rows())]
    with pytest.raises(BortError, match=r"'0' under 'right' is the text of option 1 and the number of option 0 \(from 0\)"):
        choice(choice_table(tmp_path, rows))
    task = choice(choice_table(tmp_path, rows), labels=["0", "1", "2"])
    assert all(example.label == int(example.texts[0].split()[1]) % 3 for example in task.train)
