from __future__ import annotations

import itertools
import random

import pytest

from bort.errors import BortError, ConfigurationError
from bort.tasks.config import TaskConfig
from bort.tasks.label_encoding import found_labels
from bort.tasks.load import load_task
from bort.tasks.split import text_key
from tests.tasks.tables import Warnings, rows, write


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


def test_whole_numbers_that_a_tool_wrote_as_floats_are_the_same_labels(tmp_path):
    train = write(tmp_path / "train.csv", [(f"sentence {index}", ["0", "1.0", "0.0", "1"][index % 4]) for index in range(60)])
    test = write(tmp_path / "test.csv", [("held out one", "1.0"), ("held out two", "0")])
    task = load_task(TaskConfig(train=train, test=test))
    assert task.labels == ["0", "1"]
    assert [example.label for example in task.heldout] == [1, 0]


def test_the_order_of_labels_is_the_same_in_every_process():
    # Sets of texts come in another order in each process.
    for seen in itertools.permutations(["0", "00", "1", "1.50", "1.5"]):
        assert list(found_labels(seen)) == ["0", "00", "1", "1.5", "1.50"]
    for seen in itertools.permutations(["nan", "0", "1", "-1"]):
        assert list(found_labels(seen)) == ["-1", "0", "1", "nan"]


def test_filter_keeps_matching_rows(tmp_path):
    content = [(f"sentence {index}", index % 2, "here" if index < 50 else "there") for index in range(100)]
    path = write(tmp_path / "a.csv", content, ("text", "label", "source"))
    task = load_task(TaskConfig(train=path, filter={"source": "here"}))
    assert len(task.train) + len(task.steering) + len(task.heldout) == 50


def test_regression_targets(tmp_path):
    path = write(tmp_path / "a.csv", [(f"sentence {i}", i / 10) for i in range(50)])
    task = load_task(TaskConfig(train=path, kind="regression"))
    assert (task.outputs, task.metrics, task.labels) == (1, ["pearson"], [])
    bad = write(tmp_path / "b.csv", [(f"sentence {i}", i / 10) for i in range(50)] + [("one more", "high")])
    with pytest.raises(BortError, match=r"b\.csv, line 52: the regression target 'high' under 'label' is not a number\."):
        load_task(TaskConfig(train=bad, kind="regression"))
    large = write(tmp_path / "c.csv", [(f"sentence {i}", 1e300 * (i - 25)) for i in range(50)])
    with pytest.raises(BortError, match=r"'-2\.5e\+301' under 'label' is not a number from -1e\+30 to 1e\+30"):
        load_task(TaskConfig(train=large, kind="regression"))


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
    with pytest.raises(ConfigurationError, match="must be a file with rows"):
        load_task(TaskConfig(train=write(tmp_path / "b.csv", [])))
    path = write(tmp_path / "c.csv", [(*row, "there") for row in rows()], ("text", "label", "source"))
    with pytest.raises(ConfigurationError, match="must be a file with rows with source=here"):
        load_task(TaskConfig(train=path, filter={"source": "here"}))
    for content in ("", "\n\n \n\n".replace(" ", "")):
        (tmp_path / "d.csv").write_text(content)
        with pytest.raises(BortError, match="is empty"):
            load_task(TaskConfig(train=str(tmp_path / "d.csv")))
    with pytest.raises(BortError, match="100 examples were taken out because a split for judging has their text"):
        load_task(TaskConfig(train=path, test=path))


def test_one_label_is_not_a_classification(tmp_path):
    with pytest.raises(BortError, match="train has only the label '1'"):
        load_task(TaskConfig(train=write(tmp_path / "a.csv", [(f"sentence {i}", 1) for i in range(50)])))


def test_a_wrong_layout_shows_the_expected_one(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(
        ConfigurationError, match=r"must be a folder of this layout, and it has no train\.tsv:\n.*data/\n  train\.tsv\n  dev\.tsv"
    ):
        load_task(TaskConfig(path=str(tmp_path / "data"), train="train.tsv", test="dev.tsv"))


def test_f1_needs_two_labels(tmp_path):
    path = write(tmp_path / "a.csv", [(f"sentence {i}", i % 3) for i in range(60)])
    with pytest.raises(ConfigurationError, match="must be macro_f1"):
        load_task(TaskConfig(train=path, metrics=["f1"]))


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
