from __future__ import annotations

import gzip
import json

import pytest

from bort.errors import BortError, ConfigurationError
from bort.tasks.config import TaskConfig
from bort.tasks.load import load_task
from tests.tasks.tables import Warnings, rows, write


def test_pairs_from_json_lines_and_compressed_files(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for index in range(50):
            file.write(json.dumps({"a": f"left {index}", "b": f"right {index}", "same": index % 2 == 0}) + "\n")
    task = load_task(TaskConfig(train=str(path), text="a, b", label="same"))
    assert task.labels == ["false", "true"]
    assert all(len(example.texts) == 2 for example in task.train)


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


def test_an_absent_column_is_named_with_those_at_hand(tmp_path):
    path = write(tmp_path / "a.csv", rows())
    with pytest.raises(ConfigurationError, match=r"task\.text=sentence .* a column of .*, which has 'text', 'label'"):
        load_task(TaskConfig(train=path, text="sentence"))
    with pytest.raises(ConfigurationError, match=r"task\.label=class"):
        load_task(TaskConfig(train=path, label="class"))


def test_text_that_is_not_utf8_is_one_sentence(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    with pytest.raises(BortError, match="cannot be read as UTF-8 text"):
        load_task(TaskConfig(train=str(tmp_path / "a.csv")))


def test_extra_columns_in_a_row_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(30)) + "one, two,1\n", encoding="utf-8")
    with pytest.raises(BortError, match=r"line 32: 3 columns where 2 are needed"):
        load_task(TaskConfig(train=str(path)))
    path.write_text("text,label\n" + "".join(f"sentence {i},{i % 2},\n" for i in range(30)), encoding="utf-8")
    assert len(load_task(TaskConfig(train=str(path))).train) == 21


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "not valid JSON .it is nested too deeply"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", "not valid JSON .Exceeds the limit"),
        ('{"text": "half a character \\ud800", "label": 1}', "not valid JSON .*surrogates not allowed"),
        ('{"text": "a", "label": NaN}', "no text or number under 'label'"),
        ('{"text": null, "label": 1}', "no text or number under 'text'"),
        ("[1, 2]", "an object with named columns is needed"),
    ],
)
def test_json_that_nothing_can_work_with_is_one_sentence(line, said, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "first \\u00e9 \\ud83d\\ude00", "label": 0}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(BortError, match=rf"a\.jsonl, line 2: {said}"):
        load_task(TaskConfig(train=str(path)))


def test_an_unclosed_quotation_mark_is_told_with_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\nplain,0\n"open" here,1\n', encoding="utf-8")
    with pytest.raises(BortError, match=r"a\.csv, line 3: not readable as a table .* or set task\.quoted=false"):
        load_task(TaskConfig(train=str(path)))


def test_blank_lines_before_the_header_do_no_harm(tmp_path):
    path = write(tmp_path / "a.csv", rows())
    (tmp_path / "b.csv").write_text("\n\n" + (tmp_path / "a.csv").read_text().replace("\n", "\r\n"), encoding="utf-8")
    assert load_task(TaskConfig(train=path)).digest == load_task(TaskConfig(train=str(tmp_path / "b.csv"))).digest
    (tmp_path / "c.csv").write_text("\n" + "".join(f"sentence {i},{i % 2}\n" for i in range(30)), encoding="utf-8")
    bare = load_task(TaskConfig(train=str(tmp_path / "c.csv"), header=False, text="0", label="1"))
    assert len(bare.train) + len(bare.steering) + len(bare.heldout) == 30
    assert min(int(example.identity.rpartition(":")[2]) for example in bare.train) >= 2
