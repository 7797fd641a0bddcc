from __future__ import annotations

import json
from pathlib import Path

import pytest

from bort.errors import ConfigurationError
from bort.settings import check_settings
from bort.tasks.load import load_task
from tests.official import CONF, DEV, DIAGNOSTIC, GLUE, TEST, TRAIN, TRAINED, recipe

STEERING = 8


def loaded(name, official, **changes):
    shares = {} if name.startswith("race") or name in DIAGNOSTIC else {"steering": STEERING}
    return load_task(recipe(name, official, **shares, **changes), training=name not in DIAGNOSTIC)


def examples_a_record(name):
    return 5 if name == "superglue/multirc" else 1


@pytest.mark.parametrize("name", [name for name in TRAINED if not name.startswith("race")])
def test_every_recipe_reads_its_official_layout(name, official):
    task = loaded(name, official)
    times = examples_a_record(name)
    assert len(task.heldout) == DEV * times
    assert len(task.train) + len(task.steering) == TRAIN * times
    assert task.source["malformed"] == (name == "glue/qqp")
    assert not task.unlabelled
    assert all(example.labelled for split in (task.train, task.steering, task.heldout) for example in split)
    assert len({example.identity for example in (*task.train, *task.steering)}) == TRAIN * times
    whole = load_task(recipe(name, official, steering=STEERING), training=False)
    assert len(whole.unlabelled) == TEST * times
    assert not any(example.labelled for example in whole.unlabelled)
    assert whole.digest == task.digest


@pytest.mark.parametrize("name", [f"glue/{name}" for name in GLUE])
def test_labels_of_glue_are_the_official_ones(name, official):
    config, task = recipe(name, official), loaded(name, official)
    values = GLUE[name.removeprefix("glue/")][4]
    first = next(example for example in task.heldout if example.identity.endswith(":1" if name == "glue/cola" else ":2"))
    value = values[1000 % len(values)]
    assert (
        first.label == float(value) if task.kind == "regression" else task.labels[int(first.label)] == config.label_names()[value]
    )
    assert all('"' in text for example in task.train for text in example.texts)


def by_index(task, index):
    return next(example for example in (*task.train, *task.steering) if example.index == index)


def test_labels_of_superglue_are_the_official_ones(official):
    for name, zero in (("boolq", "true"), ("cb", "contradiction"), ("rte", "entailment"), ("wic", "false"), ("wsc", "true")):
        task = loaded(f"superglue/{name}", official)
        assert task.labels[int(by_index(task, "0").label)] == zero
    assert by_index(loaded("superglue/copa", official), "1").label == 1
    multirc = loaded("superglue/multirc", official)
    assert [multirc.labels[int(by_index(multirc, f"0-{q}-{a}").label)] for q, a in ((0, 0), (0, 1), (1, 2))] == [
        "false",
        "true",
        "false",
    ]


def test_each_option_is_a_sequence_of_its_own(official):
    copa = loaded("superglue/copa", official)
    assert [pair[1] for pair in copa.sequences(by_index(copa, "1"))] == [
        "so The rain of day 1 stopped.",
        "so The rain of day 1 went on.",
    ]
    race = loaded("race/middle", official)
    asked = next(example for example in race.train if example.identity == "middle/3.txt:0")
    assert [
        pair[1].endswith(f"There stood the {thing} 3 .")
        for pair, thing in zip(race.sequences(asked), ("kettle", "ladder"), strict=False)
    ] == [True, True]
    plain = next(example for example in race.train if example.identity == "middle/3.txt:1")
    assert race.sequences(plain)[0][1] == "What was lost in story 3? lantern 3".replace("lantern", "the lantern")
    assert (asked.label, plain.label) == (3, 0)


def test_an_answer_of_race_is_a_place_even_where_the_options_are_numbers(official, tmp_path):
    record = {"article": "a", "questions": ["how many"], "options": [["3", "2", "1", "0"]], "answers": ["B"], "id": "1.txt"}
    for split in ("train", "dev", "test"):
        (tmp_path / split / "high").mkdir(parents=True)
        content = record | {"article": f"a story to {split} with"}
        (tmp_path / split / "high" / "1.txt").write_text(json.dumps(content))
    task = load_task(recipe("race/high", tmp_path, path=str(tmp_path)))
    assert [example.label for split in (task.train, task.steering, task.heldout) for example in split] == [1, 1, 1]


def test_entities_of_record_are_put_into_the_query(official):
    task = loaded("superglue/record", official)
    example = by_index(task, "0")
    # Named twice in the passage, offered once.
    assert example.options == ("Ada", "Bruno", "Carla")
    assert example.right == {2}
    passage, query = task.sequences(example)[2]
    assert query == "It was Carla who saw them on day 0"
    assert "@highlight" not in passage
    assert task.margin > 0


def test_spans_are_marked_in_the_text(official):
    wic = by_index(loaded("superglue/wic", official), "3")
    assert wic.texts == ("He rowed to the * bank * number 3.", "The * bank * number 3 lent her money.")
    wsc = by_index(loaded("superglue/wsc", official), "3")
    assert wsc.texts == ("# Ada Brown # told Elif, number 3, many lies about herself, which * she * believed.", "Ada Brown")


def test_questions_on_one_passage_stay_in_one_split(official):
    for name in ("superglue/multirc", "superglue/record", "race/high"):
        task = loaded(name, official)
        assert not {example.unit for example in task.train} & {example.unit for example in task.steering}
        assert all(example.unit for example in task.train)


@pytest.mark.parametrize(("level", "passages"), [("middle", TRAIN // 4), ("high", TRAIN // 4), ("all", TRAIN // 2)])
def test_race_has_its_three_splits(level, passages, official):
    task = loaded(f"race/{level}", official)
    assert len(task.train) == 2 * passages
    assert len(task.steering) == 2 * (DEV // 4) * (2 if level == "all" else 1)
    assert {len(example.options) for example in task.train} == {4}


@pytest.mark.parametrize("name", DIAGNOSTIC)
def test_diagnostic_sets_are_for_scores_and_submissions_alone(name, official):
    task = loaded(name, official)
    assert len(task.unlabelled) == TEST
    # AX of GLUE comes without its labels, the two of SuperGLUE with them.
    assert len(task.heldout) == (0 if name == "glue/ax" else TEST)
    with pytest.raises(ConfigurationError, match="nothing to train on and can only be evaluated"):
        load_task(recipe(name, official))


def test_the_path_may_be_the_whole_download_or_the_task_itself(official):
    whole = load_task(recipe("glue/rte", official, steering=STEERING, path=str(official / "glue")))
    own = load_task(recipe("glue/rte", official, steering=STEERING, path=str(official / "glue" / "RTE")))
    assert whole.digest == own.digest


@pytest.mark.parametrize("name", ["glue/mnli", "superglue/multirc", "race/high"])
def test_a_wrong_layout_shows_the_expected_tree(name, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load_task(recipe(name, tmp_path, path=str(tmp_path)))
    assert caught.value.key == "task.path"
    tree = {
        "glue/mnli": ["  train.tsv", "  dev_matched.tsv", "  test_matched.tsv  (only for a submission)"],
        "superglue/multirc": ["  train.jsonl", "  val.jsonl", "  test.jsonl  (only for a submission)"],
        "race/high": ["  train/high/*.txt", "  dev/high/*.txt", "  test/high/*.txt"],
    }[name]
    assert str(caught.value).splitlines()[1:] == [f"{tmp_path}/", *tree]


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_fits_the_schema_and_says_what_it_is(path, tmp_path):
    assert path.read_text(encoding="utf-8").startswith("# ")
    config = recipe(path.relative_to(CONF).with_suffix("").as_posix(), tmp_path)
    if path.stem == "custom":
        config.train = "a.csv"
    check_settings(config, "task")
    if path.parent != CONF:
        assert len(config.hub.revision) == 40


def test_the_demo_task_names_its_labels(tmp_path):
    config = recipe("rotten_tomatoes", tmp_path)
    folder = Path(config.path).parent
    folder.mkdir(parents=True)
    config.steering, config.heldout, config.train_examples = 10, 20, 50
    lines = [f'"a film, number {i}",{i % 2},{"imdb" if i % 3 else "rotten_tomatoes"}' for i in range(300)]
    Path(config.path).write_text("\n".join(["text,label,source", *lines]) + "\n", encoding="utf-8")
    task = load_task(config)
    assert task.labels == ["negative", "positive"]
    assert [len(split) for split in (task.train, task.steering, task.heldout)] == [50, 10, 20]
