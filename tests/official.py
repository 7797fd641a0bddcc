"""Small invented data in the layouts of GLUE's, SuperGLUE's and RACE's downloads. Nothing here is taken from the data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bort.tasks.config import TaskConfig

CONF = Path(__file__).parents[1] / "conf" / "task"
_THINGS = ["kettle", "ladder", "violin", "harbour", "lantern", "orchard", "sledge", "teapot"]
_PEOPLE = ["Ada", "Bruno", "Carla", "Dmitri", "Elif", "Farid"]
_NLI = ["contradiction", "entailment", "neutral"]
_TWO = ["entailment", "not_entailment"]
_PARSES = ["sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"]
_MNLI = ["index", "promptID", "pairID", "genre", *_PARSES, "sentence1", "sentence2"]
_STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"]
_MRPC = ["#1 ID", "#2 ID", "#1 String", "#2 String"]
#: Folder, columns of train and dev (none for CoLA), columns of test, column of the label, its values.
GLUE: dict[str, tuple[str, list[str] | None, list[str], str, list[str]]] = {
    "cola": ("CoLA", None, ["index", "sentence"], "1", ["0", "1"]),
    "sst2": ("SST-2", ["sentence", "label"], ["index", "sentence"], "label", ["0", "1"]),
    "mrpc": ("MRPC", ["Quality", *_MRPC], ["index", *_MRPC], "Quality", ["0", "1"]),
    "stsb": ("STS-B", [*_STSB, "score"], _STSB, "score", ["0.0", "2.5", "5.0"]),
    "qqp": (
        "QQP",
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["id", "question1", "question2"],
        "is_duplicate",
        ["0", "1"],
    ),
    "mnli": ("MNLI", [*_MNLI, "label1", "gold_label"], _MNLI, "gold_label", _NLI),
    "qnli": ("QNLI", ["index", "question", "sentence", "label"], ["index", "question", "sentence"], "label", _TWO),
    "rte": ("RTE", ["index", "sentence1", "sentence2", "label"], ["index", "sentence1", "sentence2"], "label", _TWO),
    "wnli": ("WNLI", ["index", "sentence1", "sentence2", "label"], ["index", "sentence1", "sentence2"], "label", ["0", "1"]),
}
TRAIN, DEV, TEST = 40, 12, 6
#: Every recipe that has something to train on, and those of diagnostic sets.
TRAINED = [f"glue/{name}" for name in (*GLUE, "mnli_mismatched")] + [
    *(f"superglue/{name}" for name in ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")),
    *(f"race/{name}" for name in ("all", "middle", "high")),
]
DIAGNOSTIC = ["glue/ax", "superglue/ax_b", "superglue/ax_g"]


def recipe(name: str, cache: Path | str, **changes: Any) -> TaskConfig:
    """Returns the configuration of ``conf/task/<name>.yaml`` with its data below ``cache``."""
    values = OmegaConf.load(CONF / f"{name}.yaml")
    task = OmegaConf.merge(OmegaConf.structured(TaskConfig), values, changes)
    made = OmegaConf.to_object(OmegaConf.create({"cache": str(cache), "task": task}).task)
    assert isinstance(made, TaskConfig)
    return made


def write_all(root: Path) -> Path:
    """Writes all three suites below ``root`` as the recipes look for them, and returns it."""
    write_glue(root / "glue")
    write_superglue(root / "superglue")
    write_race(root / "RACE")
    return root


def sentence(number: int) -> str:
    """Returns the invented sentence of that number, each another; with a quotation mark, as TSV files have them unescaped."""
    thing, person = _THINGS[number % len(_THINGS)], _PEOPLE[number // len(_THINGS) % len(_PEOPLE)]
    return f'{person} put the "{thing} number {number} under the stairs.'


def write_glue(root: Path) -> None:
    """Writes GLUE's ten tasks; QQP's train has a broken row, as the real one does."""
    for folder, columns, test_columns, label, values in GLUE.values():
        splits: list[tuple[str, int, int, list[str] | None]] = [("train", TRAIN, 0, columns)]
        kinds = ("_matched", "_mismatched") if folder == "MNLI" else ("",)
        for place, kind in enumerate(kinds):
            splits.append((f"dev{kind}", DEV, 1000 + 100 * place, columns))
            splits.append((f"test{kind}", TEST, 2000 + 100 * place, test_columns))
        for split, count, start, names in splits:
            rows = [] if names is None else ["\t".join(names)]
            for number in range(start, start + count):
                value = values[number % len(values)]
                if names is None:
                    rows.append(f"inv{number}\t{value}\t{'' if value == '1' else '*'}\t{sentence(number)}")
                    continue
                fields = {name: _field(name, number, start) for name in names} | ({label: value} if label in names else {})
                rows.append("\t".join(fields.values()))
            if folder == "QQP" and split == "train":
                rows.append("broken\trow")
            _write(root / folder / f"{split}.tsv", "\n".join(rows) + "\n")
    rows = ["index\tsentence1\tsentence2"]
    rows += [f"{number}\t{sentence(3000 + number)}\t{sentence(4000 + number)}" for number in range(TEST)]
    _write(root / "diagnostic" / "diagnostic.tsv", "\n".join(rows) + "\n")


def _field(name: str, number: int, start: int) -> str:
    if name in ("index", "id"):
        return str(number - start)
    if name in ("sentence", "sentence1", "question", "question1", "#1 String"):
        return sentence(number)
    return sentence(number + 5000) if name in ("sentence2", "question2", "#2 String") else "-"


def write_superglue(root: Path) -> None:
    """Writes SuperGLUE's ten tasks."""
    for split, count, start in (("train", TRAIN, 0), ("val", DEV, 1000), ("test", TEST, 2000)):
        hidden = split == "test"
        for folder, make in _SUPERGLUE.items():
            records = [make(number, number - start, hidden) for number in range(start, start + count)]
            _write_records(root / folder / f"{split}.jsonl", records)
    broad = [{"sentence1": sentence(n), "sentence2": sentence(n + 9), "label": _TWO[n % 2], "idx": n} for n in range(TEST)]
    _write_records(root / "AX-b" / "AX-b.jsonl", broad)
    gender = [
        {
            "premise": f"The baker told the pilot that {pronoun} bread was ready, number {pair}.",
            "hypothesis": f"The baker had bread, number {pair}.",
            "label": _TWO[pair % 2],
            "pair_id": 500 + pair,
            "idx": 2 * pair + place,
        }
        for pair in range(TEST // 2)
        for place, pronoun in enumerate(("her", "his"))
    ]
    _write_records(root / "AX-g" / "AX-g.jsonl", gender)


def _labelled(record: dict[str, Any], hidden: bool, **label: Any) -> dict[str, Any]:
    return record if hidden else record | label


def _boolq(number: int, idx: int, hidden: bool) -> dict[str, Any]:
    # Longer than a window, so that it is read in two.
    passage = " ".join(sentence(number * 30 + place) for place in range(20))
    record = {"question": f"is kettle {number} under the stairs", "passage": passage, "idx": idx}
    return _labelled(record, hidden, label=number % 2 == 0)


def _cb(number: int, idx: int, hidden: bool) -> dict[str, Any]:
    record = {"premise": sentence(number), "hypothesis": f"the stairs hid something, {number}", "idx": idx}
    return _labelled(record, hidden, label=_NLI[number % 3])


def _copa(number: int, idx: int, hidden: bool) -> dict[str, Any]:
    choices = {"choice1": f"The rain of day {number} stopped.", "choice2": f"The rain of day {number} went on."}
    record = {"premise": sentence(number), **choices, "question": ("cause", "effect")[number % 2], "idx": idx}
    return _labelled(record, hidden, label=number % 2)


def _multirc(number: int, idx: int, hidden: bool) -> dict[str, Any]:
    def answer(place: int) -> dict[str, Any]:
        return _labelled({"text": f"{_THINGS[place]} {number}", "idx": 10 * number + place}, hidden, label=(number + place) % 2)

    questions = [
        {"question": f"What stood there, {number}?", "answers": [answer(0), answer(1)], "idx": 2 * number},
        {"question": f"What did not, {number}?", "answers": [answer(2), answer(3), answer(4)], "idx": 2 * number + 1},
    ]
    return {
        "idx": idx,
        "version": 1.1,
        "passage": {"text": f"{sentence(number)} {sentence(number + 7000)}", "questions": questions},
    }


def _record(number: int, idx: int, hidden: bool) -> dict[str, Any]:
    names = [_PEOPLE[(number + place) % len(_PEOPLE)] for place in range(3)]
    text = f"{names[0]} met {names[1]} at the harbour.\n@highlight\n{names[2]} saw them, and {names[0]} waved, {number}"
    starts = [text.index(name) for name in names] + [text.rindex(names[0])]
    entities = [{"start": start, "end": start + len(name) - 1} for start, name in zip(starts, [*names, names[0]], strict=True)]
    right = {"start": starts[2], "end": starts[2] + len(names[2]) - 1, "text": names[2]}
    query = {"query": f"It was @placeholder who saw them on day {number}", "idx": idx}
    passage = {"text": text, "entities": entities}
    return {"source": "invented", "passage": passage, "qas": [_labelled(query, hidden, answers=[right])], "idx": idx}


def _rte(number: int, idx: int, hidden: bool) -> dict[str, Any]:
    record = {"premise": sentence(number), "hypothesis": f"something was put away, {number}", "idx": idx}
    return _labelled(record, hidden, label=_TWO[number % 2])


def _wic(number: int, idx: int, hidden: bool) -> dict[str, Any]:
    first, second = f"He rowed to the bank number {number}.", f"The bank number {number} lent her money."
    places = {"start1": 16, "end1": 20, "start2": 4, "end2": 8, "version": 1.1}
    record = {"word": "bank", "sentence1": first, "sentence2": second, "idx": idx, **places}
    return _labelled(record, hidden, label=number % 2 == 1)


def _wsc(number: int, idx: int, hidden: bool) -> dict[str, Any]:
    text = f"Ada Brown told Elif, number {number}, many lies about herself, which she believed."
    target = {"span1_index": 0, "span1_text": "Ada Brown", "span2_index": 11, "span2_text": "she"}
    return _labelled({"text": text, "target": target, "idx": idx}, hidden, label=number % 2 == 0)


_SUPERGLUE = {
    "BoolQ": _boolq,
    "CB": _cb,
    "COPA": _copa,
    "MultiRC": _multirc,
    "ReCoRD": _record,
    "RTE": _rte,
    "WiC": _wic,
    "WSC": _wsc,
}


def write_race(root: Path) -> None:
    """Writes RACE: train, dev and test, each with middle and high, a passage a file."""
    for split, count, start in (("train", TRAIN // 4, 0), ("dev", DEV // 4, 1000), ("test", 2, 2000)):
        for level, shift in (("middle", 0), ("high", 500)):
            for number in range(start + shift, start + shift + count):
                record = {
                    "answers": ["ABCD"[number % 4], "ABCD"[(number + 1) % 4]],
                    "options": [[f"the {thing} {number}" for thing in _THINGS[place : place + 4]] for place in (0, 4)],
                    "questions": [f"{sentence(number)} There stood _ .", f"What was lost in story {number}?"],
                    "article": f"{sentence(number)}\n{sentence(number + 8000)}",
                    "id": f"{level}{number}.txt",
                }
                _write(root / split / level / f"{number}.txt", json.dumps(record))


def _write_records(path: Path, records: list[dict[str, Any]]) -> None:
    _write(path, "".join(json.dumps(record) + "\n" for record in records))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
