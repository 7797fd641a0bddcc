from __future__ import annotations

import dataclasses
import json
import zipfile

import pytest

from bort.errors import BortError
from bort.tasks.load import load_task
from bort.tasks.submission import SUITES, submission_text, suite_of, write_submission, zip_submissions
from tests.official import DIAGNOSTIC, TEST, TRAINED, recipe

WORDS = {
    "glue/cola": ["0", "1"],
    "glue/sst2": ["0", "1"],
    "glue/mrpc": ["0", "1"],
    "glue/qqp": ["0", "1"],
    "glue/wnli": ["0", "1"],
    "glue/mnli": ["contradiction", "entailment", "neutral"],
    "glue/mnli_mismatched": ["contradiction", "entailment", "neutral"],
    "glue/ax": ["contradiction", "entailment", "neutral"],
    "glue/qnli": ["entailment", "not_entailment"],
    "glue/rte": ["entailment", "not_entailment"],
    "superglue/boolq": ["false", "true"],
    "superglue/wic": ["false", "true"],
    "superglue/wsc": ["False", "True"],
    "superglue/cb": ["contradiction", "entailment", "neutral"],
    "superglue/rte": ["entailment", "not_entailment"],
    "superglue/ax_b": ["entailment", "not_entailment"],
    "superglue/ax_g": ["entailment", "not_entailment"],
    "superglue/copa": [0, 1],
}
FILES = {
    "glue": ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "QNLI", "RTE", "WNLI", "MNLI-mm", "AX"],
    "superglue": ["BoolQ", "CB", "COPA", "MultiRC", "ReCoRD", "RTE", "WiC", "WSC", "AX-b", "AX-g"],
}


def task_of(name, official):
    return load_task(recipe(name, official, steering=8), training=False)


@pytest.mark.parametrize("name", sorted(WORDS))
def test_words_and_numbers_are_the_sites_own(name, official):
    task = task_of(name, official)
    found = [index % len(WORDS[name]) for index in range(TEST)]
    expected = [WORDS[name][index] for index in found]
    lines = submission_text(task, found).splitlines()
    if name.startswith("glue"):
        assert lines == ["index\tprediction", *(f"{index}\t{word}" for index, word in enumerate(expected))]
    else:
        assert [json.loads(line) for line in lines] == [{"idx": index, "label": word} for index, word in enumerate(expected)]


def test_stsb_has_three_decimals_within_its_scale(official):
    task = task_of("glue/stsb", official)
    lines = submission_text(task, [-0.2, 5.4, 2.34567, 0, 1, 5]).splitlines()
    assert lines == ["index\tprediction", "0\t0.000", "1\t5.000", "2\t2.346", "3\t0.000", "4\t1.000", "5\t5.000"]


def test_multirc_is_nested_as_its_data_is(official):
    task = task_of("superglue/multirc", official)
    lines = submission_text(task, [index % 2 for index in range(len(task.unlabelled))]).splitlines()
    assert len(lines) == TEST
    first = json.loads(lines[0])
    assert first["idx"] == 0
    assert first["passage"]["questions"] == [
        {"idx": 4000, "answers": [{"idx": 20000, "label": 0}, {"idx": 20001, "label": 1}]},
        {"idx": 4001, "answers": [{"idx": 20002, "label": 0}, {"idx": 20003, "label": 1}, {"idx": 20004, "label": 0}]},
    ]


def test_record_gives_the_text_of_the_entity(official):
    task = task_of("superglue/record", official)
    lines = [json.loads(line) for line in submission_text(task, [1] * TEST).splitlines()]
    assert lines == [{"idx": index, "label": task.unlabelled[index].options[1]} for index in range(TEST)]


def test_the_whole_suites_have_the_names_that_the_sites_accept(official, tmp_path):
    for suite, names in FILES.items():
        files = []
        for name in (one for one in [*TRAINED, *DIAGNOSTIC] if one.startswith(f"{suite}/")):
            task = task_of(name, official)
            written = write_submission(task, [0] * len(task.unlabelled), tmp_path / name)
            with zipfile.ZipFile(written["zip"]) as archive:
                assert archive.namelist() == [task.submission]
            files.append(written["file"])
        suffix = ".tsv" if suite == "glue" else ".jsonl"
        with zipfile.ZipFile(zip_submissions(files, tmp_path / f"{suite}.zip")) as archive:
            assert sorted(archive.namelist()) == sorted(name + suffix for name in names)
            assert all(b"\r" not in archive.read(name) for name in archive.namelist())
        assert suite_of(files)[1] == []
    assert set(FILES["glue"]) == set(SUITES["GLUE"])


def test_the_same_predictions_make_the_same_zip(official, tmp_path):
    task = task_of("glue/rte", official)
    zips = [write_submission(task, [1] * TEST, tmp_path / name)["zip"] for name in "ab"]
    first, second = (open(path, "rb").read() for path in zips)  # noqa: SIM115
    assert first == second


def test_repeated_names_are_refused_and_nothing_is_written(official, tmp_path):
    task = task_of("glue/rte", official)
    doubled = [dataclasses.replace(example, index="7") if place > 3 else example for place, example in enumerate(task.unlabelled)]
    with pytest.raises(BortError, match="the test set names '7' 2 times"):
        write_submission(dataclasses.replace(task, unlabelled=doubled), [0] * TEST, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_a_submission_is_refused(official, tmp_path):
    task = task_of("glue/rte", official)
    with pytest.raises(BortError, match="5 predictions for 6 test examples"):
        submission_text(task, [0] * 5)
    with pytest.raises(BortError, match="has no unlabelled test set"):
        submission_text(dataclasses.replace(task, unlabelled=()), [])
    with pytest.raises(BortError, match="is no submission file"):
        zip_submissions([tmp_path / "CoLA.tsv"], tmp_path / "a.zip")
    file = write_submission(task, [0] * TEST, tmp_path)["file"]
    with pytest.raises(BortError, match=r"RTE\.tsv is given 2 times"):
        zip_submissions([file, file], tmp_path / "a.zip")
    with pytest.raises(BortError, match="none of the files that GLUE accepts"):
        suite_of([file, "my.tsv"])
    assert suite_of([file])[0] == "GLUE"
