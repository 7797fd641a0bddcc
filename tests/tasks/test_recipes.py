from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bort.tasks import TaskConfig, load_task

CONF = Path(__file__).parents[2] / "conf" / "task"
PARSES = ["sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"]
MNLI = ["index", "promptID", "pairID", "genre", *PARSES, "sentence1", "sentence2"]
#: The columns of GLUE's files as they are downloaded; CoLA's have no header.
COLUMNS = {
    "cola": None,
    "sst2": ["sentence", "label"],
    "mrpc": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
    "rte": ["index", "sentence1", "sentence2", "label"],
    "wnli": ["index", "sentence1", "sentence2", "label"],
    "qnli": ["index", "question", "sentence", "label"],
    "stsb": ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"],
    "qqp": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "mnli": [*MNLI, "label1", "gold_label"],
    "mnli_mismatched": [*MNLI, "label1", "gold_label"],
}
ANNOTATORS = ["label1", "label2", "label3", "label4", "label5", "gold_label"]
PAIR_LABELS = ["entailment", "not_entailment"]
NLI_LABELS = ["entailment", "neutral", "contradiction"]
LABELS = {"rte": PAIR_LABELS, "qnli": PAIR_LABELS, "mnli": NLI_LABELS, "mnli_mismatched": NLI_LABELS}


def recipe(name, cache):
    values = OmegaConf.load(CONF / f"{name}.yaml")
    holder = OmegaConf.create({"cache": str(cache), "task": OmegaConf.merge(OmegaConf.structured(TaskConfig), values)})
    return OmegaConf.to_object(holder.task)


def rows(columns, config, labels, count, start):
    made = []
    for index in range(start, start + count):
        label = labels[index % len(labels)]
        if columns is None:
            made.append(["gj04", label, "" if label == "1" else "*", f'The "sentence {index}.'])
            continue
        fields = dict.fromkeys(columns, "-") | {config.label: label}
        made.append([fields[name] for name in columns])
        for text in config.text_columns():
            made[-1][columns.index(text)] = f'{text} "number {index}'
    return made


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_every_glue_recipe_reads_its_official_layout(tmp_path, name):
    config = recipe(f"glue/{name}", tmp_path)
    labels = ["0.0", "2.5", "5.0"] if config.kind == "regression" else LABELS.get(name, ["0", "1"])
    folder = Path(config.path)
    folder.mkdir(parents=True)
    for file, count, start in ((config.train, 120, 0), (config.test, 12, 1000)):
        columns = COLUMNS[name]
        if name.startswith("mnli") and file != config.train:
            columns = [*MNLI, *ANNOTATORS]
        lines = ([] if columns is None else [columns]) + rows(columns, config, labels, count, start)
        if name == "qqp" and file == config.train:
            lines.append(["broken", "row"])
        (folder / file).write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    task = load_task(config)
    assert len(task.heldout) == 12
    assert len(task.train) + len(task.steering) == 120
    assert task.source["malformed"] == (name == "qqp")
    assert len(task.train[0].texts) == (1 if name in ("cola", "sst2") else 2)
    assert all('"' in example.texts[0] for example in task.train)
    if config.kind == "classification":
        names = config.label_names()
        assert task.labels == list(names.values())
        first = next(example for example in task.heldout if example.identity.endswith(":2"))
        position = 0 if COLUMNS[name] is not None else 1
        assert task.labels[int(first.label)] == names[labels[(1000 + position) % len(labels)]]


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_fits_the_schema_and_says_what_it_is(path, tmp_path):
    assert path.read_text(encoding="utf-8").startswith("# ")
    config = recipe(path.relative_to(CONF).with_suffix(""), tmp_path)
    if path.stem == "custom":
        config.train = "a.csv"
    config.check()


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
