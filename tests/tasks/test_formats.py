"""Records that are not as they should be, and the hub's flat form of the same data."""

from __future__ import annotations

import json

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from huggingface_hub import constants

from bort.errors import BortError, ConfigurationError
from bort.tasks.load import load_task
from tests.official import recipe

BROKEN = {
    "superglue/copa": (
        {"premise": "p", "choice1": "a", "choice2": "b", "question": "reason", "label": 0, "idx": 0},
        "'reason' is missing",
    ),
    "superglue/multirc": ({"idx": 0, "passage": {"text": "t"}}, "'questions' is missing"),
    "superglue/record": (
        {"idx": 0, "passage": {"text": "t", "entities": []}, "qas": [{"query": "no place", "idx": 1}]},
        "no @placeholder",
    ),
    "superglue/wic": (
        {"sentence1": "a bank", "sentence2": "b", "start1": 2, "end1": 90, "start2": 0, "end2": 1, "idx": 0},
        "a span from 2 to 90",
    ),
    "superglue/wsc": ({"text": "t", "idx": 0}, "'target' is missing"),
}


@pytest.mark.parametrize("label", ["2", "-2", "right", "9" * 5000])
def test_a_right_option_that_is_none_is_named(label, tmp_path):
    record = {"premise": "p", "choice1": "a", "choice2": "b", "question": "cause", "label": label, "idx": 0}
    for file in ("train", "val"):
        (tmp_path / f"{file}.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(BortError, match="under 'label' is none of the 2 options"):
        load_task(recipe("superglue/copa", tmp_path, path=str(tmp_path)))


def test_passages_of_multirc_lose_their_mark_up(tmp_path):
    text = "<b>Sent 1: </b>It rained.<br><b>Sent 2: </b>2 < 3 stopped <i>soon</i>.<br/>"
    answers = [{"text": f"answer {place}", "idx": place, "label": place % 2} for place in range(2)]
    questions = [{"question": f"what {number}", "idx": number, "answers": answers} for number in range(2)]
    for start, file in ((0, "train"), (50, "val")):
        records = [{"idx": start + n, "passage": {"text": f"{text} {start + n}", "questions": questions}} for n in range(20)]
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    task = load_task(recipe("superglue/multirc", tmp_path, path=str(tmp_path)))
    assert {example.texts[0].rpartition(" ")[0] for example in task.train} == {"It rained. 2 < 3 stopped soon ."}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_record_with_another_form_is_named(name, tmp_path):
    record, said = BROKEN[name]
    for file in ("train", "val"):
        (tmp_path / f"{file}.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(BortError, match=said) as caught:
        load_task(recipe(name, tmp_path, path=str(tmp_path)))
    assert "train.jsonl" in str(caught.value)


def test_a_race_file_that_is_no_json_is_named(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / split / "high").mkdir(parents=True)
        (tmp_path / split / "high" / "1.txt").write_text("not json")
    with pytest.raises(BortError, match=r"1\.txt is not one of RACE's files"):
        load_task(recipe("race/high", tmp_path, path=str(tmp_path)))


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the hub: what a test puts into it, by subset and split."""
    held = {}

    def load_dataset(repository, subset, *, split, revision):
        assert len(revision) == 40
        return held[repository, subset, split]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return held


def labelled(records, names):
    features = {key: Value("string" if isinstance(value, str) else "int32") for key, value in records[0].items()}
    return Dataset.from_list(records, features=Features(features | {"label": ClassLabel(names=names)}))


@pytest.mark.parametrize(
    ("name", "subset", "names", "fields"),
    [
        ("glue/cola", "cola", ["unacceptable", "acceptable"], ["sentence"]),
        ("glue/mrpc", "mrpc", ["not_equivalent", "equivalent"], ["sentence1", "sentence2"]),
        ("glue/rte", "rte", ["entailment", "not_entailment"], ["sentence1", "sentence2"]),
        ("superglue/boolq", "boolq", ["False", "True"], ["passage", "question"]),
    ],
)
def test_the_hub_gives_the_same_labels_by_name(name, subset, names, fields, hub):
    repository = "nyu-mll/glue" if name.startswith("glue") else "aps/super_glue"
    for split, count, start in (("train", 40, 0), ("validation", 10, 100), ("test", 4, 200)):
        records = [
            {field: f"{field} {i}" for field in fields} | {"idx": i - start, "label": -1 if split == "test" else i % 2}
            for i in range(start, start + count)
        ]
        hub[repository, subset, split] = labelled(records, names)
    task = load_task(recipe(name, "nowhere", path="hub", steering=8), training=False)
    assert len(task.heldout) == 10
    assert [(example.index, example.labelled) for example in task.unlabelled] == [(str(i), False) for i in range(4)]
    for example in task.heldout:
        assert task.labels[int(example.label)] == names[int(example.texts[0].split()[-1]) % 2].lower()
        assert tuple(text.split()[0] for text in example.texts) == tuple(fields)


def test_the_hubs_flat_records_are_read_as_the_nested_ones(hub):
    def multirc(split):
        records = [
            {
                "paragraph": f"story {split} {i // 4}",
                "question": f"what {i // 2}",
                "answer": f"kettle {i}",
                "idx": {"paragraph": i // 4, "question": i // 2, "answer": i},
                "label": i % 2 if split != "test" else -1,
            }
            for i in range(40)
        ]
        return Dataset.from_list(records).cast_column("label", ClassLabel(names=["False", "True"]))

    def record(split):
        names = ["Ada", "Elif", "Ada"]
        records = [
            {
                "passage": f"Ada saw Elif {split} {i}",
                "query": f"@placeholder saw her {i}",
                "entities": names,
                "answers": [] if split == "test" else ["Ada"],
                "idx": {"passage": i, "query": 100 + i},
            }
            for i in range(30)
        ]
        return Dataset.from_list(records)

    for split in ("train", "validation", "test"):
        hub["aps/super_glue", "multirc", split] = multirc(split)
        hub["aps/super_glue", "record", split] = record(split)
    task = load_task(recipe("superglue/multirc", "nowhere", path="hub", steering=8), training=False)
    first = next(example for example in task.heldout if example.index == "2-5-11")
    assert (first.texts, first.group, first.unit) == (("story validation 2", "what 5 kettle 11"), "2-5", "2")
    assert task.labels[int(first.label)] == "true"
    assert not any(example.labelled for example in task.unlabelled)
    entities = load_task(recipe("superglue/record", "nowhere", path="hub", steering=8), training=False)
    assert entities.heldout[0].options == ("Ada", "Elif")
    assert entities.heldout[0].right == {0}
    assert entities.unlabelled[0].index == "100"


def test_pairs_of_the_hubs_winogender_follow_each_other(hub):
    records = [{"premise": f"p {i}", "hypothesis": f"h {i // 2}", "idx": i, "label": i // 2 % 2} for i in range(8)]
    hub["aps/super_glue", "axg", "test"] = labelled(records, ["entailment", "not_entailment"])
    task = load_task(recipe("superglue/ax_g", "nowhere", path="hub"), training=False)
    assert [example.group for example in task.heldout] == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_what_the_hub_lacks_is_named(hub, monkeypatch):
    hub["nyu-mll/glue", "rte", "train"] = labelled([{"sentence1": "a", "label": 0}], ["entailment", "not_entailment"])
    with pytest.raises(ConfigurationError, match="nyu-mll/glue, which has sentence1, label"):
        load_task(recipe("glue/rte", "nowhere", path="hub"))

    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach the Hub.\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        BortError, match=r"nyu-mll/glue cannot be read from the hub \(Couldn't reach the Hub\); go online, set HF_HUB_OFFLINE=1"
    ):
        load_task(recipe("glue/rte", "nowhere", path="hub"))
