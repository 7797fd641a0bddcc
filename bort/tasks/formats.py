"""The layouts of SuperGLUE and RACE that are not one row an example: from their records to examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.files import parse_json
from bort.tasks.read import read_records

#: Marks of a span. Every vocabulary has them, texts hardly do, and stock models need no new token or head for them.
FIRST_MARK, SECOND_MARK = "#", "*"
#: What an entity takes the place of in a query of ReCoRD.
ENTITY = "@placeholder"
#: Numbered sentences and line breaks, which some passages of MultiRC have as mark-up.
_MARKUP = re.compile(r"<b>\s*Sent\s*\d+\s*:\s*</b>|</?(?:b|i|p|br)\s*/?>", re.IGNORECASE)


@dataclass(frozen=True)
class Raw:
    """An example as its source has it: its label by value, not yet by number.

    Args:
        identity: Where it stands.
        texts: As in :class:`bort.tasks.task.Example`.
        label: Value of the label, or number of the right option; ``None`` where it is not told.
        options: As in the example.
        answers: Texts of the right options.
        group: As in the example.
        unit: As in the example.
        index: As in the example.
    """

    identity: str
    texts: tuple[str, ...]
    label: str | None
    options: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    group: str = ""
    unit: str = ""
    index: str = ""


Record = Mapping[str, Any]


def read_format(name: str, path: Path) -> list[Raw]:
    """Reads a file of SuperGLUE, or a folder of RACE, as it is downloaded.

    Args:
        name: One of :data:`bort.tasks.config.FORMATS` that is no table.
        path: The file or folder.

    Raises:
        BortError: It cannot be read, or a record lacks a field.
    """
    if name == "race":
        return _read_race(path)
    if not path.is_file():
        raise BortError(f"{path} is no file; {name} is read from one.")
    made: list[Raw] = []
    for line, record in read_records(path):
        place = f"{path.name}:{line}"
        made += _guarded(f"{path}, line {line}", partial(_nested, name, record, place))
    return made


def from_rows(name: str, rows: list[tuple[str, Record]]) -> list[Raw]:
    """Makes examples of flat records, as the hub has them.

    Args:
        name: The format.
        rows: Place and fields of each.
    """
    return [raw for place, record in rows for raw in _guarded(place, partial(_flat, name, record, place))]


def _flat(name: str, record: Record, place: str) -> Iterator[Raw]:
    yield _FLAT[name](record, place)


def _guarded(place: str, work: Callable[[], Iterator[Raw]]) -> list[Raw]:
    try:
        return list(work())
    except KeyError as error:
        raise BortError(f"{place}: the field {error} is missing.") from error
    except (TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise BortError(f"{place}: a field has not the form that this task's files have ({error}).") from error


def _nested(name: str, record: Record, place: str) -> Iterator[Raw]:
    """Takes a record of the download apart into flat ones."""
    if name == "multirc":
        paragraph = record["passage"]
        for question in paragraph["questions"]:
            for answer in question["answers"]:
                flat = {
                    "paragraph": paragraph["text"],
                    "question": question["question"],
                    "answer": answer["text"],
                    "label": answer.get("label"),
                    "idx": {"paragraph": record["idx"], "question": question["idx"], "answer": answer["idx"]},
                }
                yield _multirc(flat, f"{place}.{question['idx']}.{answer['idx']}")
    elif name == "record":
        text = record["passage"]["text"]
        # The last character of an entity is part of it.
        entities = [text[entity["start"] : entity["end"] + 1] for entity in record["passage"]["entities"]]
        for query in record["qas"]:
            flat = {
                "passage": text,
                "query": query["query"],
                "entities": entities,
                "answers": [answer["text"] for answer in query.get("answers") or ()],
                "idx": {"passage": record["idx"], "query": query["idx"]},
            }
            yield _record(flat, f"{place}.{query['idx']}")
    elif name == "wsc":
        yield _wsc({**record, **record["target"]}, place)
    else:
        yield from _flat(name, record, place)


def _copa(record: Record, place: str) -> Raw:
    joint = {"cause": "because", "effect": "so"}[record["question"]]
    options = (str(record["choice1"]), str(record["choice2"]))
    return Raw(place, (str(record["premise"]), joint), _value(record.get("label")), options, index=_index(record))


def _multirc(record: Record, place: str) -> Raw:
    index = record["idx"]
    unit, question = str(index["paragraph"]), f"{index['paragraph']}-{index['question']}"
    passage = " ".join(_MARKUP.sub(" ", str(record["paragraph"])).split())
    texts = (passage, f"{record['question']} {record['answer']}")
    # A missing label and one of −1 both say that it is hidden.
    return Raw(
        place,
        texts,
        _value(record.get("label")),
        group=question,
        unit=unit,
        index=f"{question}-{index['answer']}",
    )


def _record(record: Record, place: str) -> Raw:
    entities = tuple(dict.fromkeys(entity.strip() for entity in record["entities"]))
    if ENTITY not in record["query"]:
        raise BortError(f"{place}: the query has no {ENTITY} for an entity to stand in.")
    passage = " ".join(record["passage"].replace("@highlight", " ").split())
    answers = tuple(dict.fromkeys(record["answers"]))
    if not all(isinstance(answer, str) for answer in answers):
        raise BortError(f"{place}: an answer is no text.")
    unit, index = (str(record["idx"][name]) for name in ("passage", "query"))
    return Raw(place, (passage, str(record["query"])), None, entities, answers, unit=unit, index=index)


def _wic(record: Record, place: str) -> Raw:
    texts = tuple(
        _marked(str(record[f"sentence{number}"]), int(record[f"start{number}"]), int(record[f"end{number}"]), SECOND_MARK)
        for number in (1, 2)
    )
    return Raw(place, texts, _value(record.get("label")), index=_index(record))


def _wsc(record: Record, place: str) -> Raw:
    text = str(record["text"])
    spans = []
    for number, mark in ((1, FIRST_MARK), (2, SECOND_MARK)):
        start, end = _words(text, int(record[f"span{number}_index"]), str(record[f"span{number}_text"]))
        spans.append((start, end, mark))
    # From the back, so that the places of the one in front stay as they are.
    for start, end, mark in sorted(spans, reverse=True):
        text = _marked(text, start, end, mark)
    return Raw(place, (text, str(record["span1_text"])), _value(record.get("label")), index=_index(record))


def _words(text: str, first: int, span: str) -> tuple[int, int]:
    """Returns where a span lies whose first word is the ``first`` of the text, words being parted by spaces."""
    words = text.split(" ")
    start = len(" ".join(words[:first])) + (first > 0)
    # Some indices are off by punctuation that clings to a word; the span's own text decides where it is there.
    found = text.lower().find(span.lower(), max(0, start - 1))
    if 0 <= found <= start + 2:
        return found, found + len(span)
    return start, len(" ".join(words[: first + len(span.split(" "))]))


def _marked(text: str, start: int, end: int, mark: str) -> str:
    if not 0 <= start < end <= len(text):
        raise ValueError(f"a span from {start} to {end} in a text of {len(text)} characters")
    return f"{text[:start]}{mark} {text[start:end]} {mark}{text[end:]}"


def _read_race(folder: Path) -> list[Raw]:
    if not folder.is_dir():
        raise BortError(f"{folder} is no folder; RACE is read from folders of .txt files.")
    made: list[Raw] = []
    for path in sorted(folder.rglob("*.txt"), key=lambda path: (path.parent.name, len(path.stem), path.stem)):
        try:
            record = parse_json(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise BortError(f"{path} is not one of RACE's files, which hold JSON: {error}.") from error
        made += _guarded(str(path), partial(_race_questions, record, path))
    if not made:
        raise BortError(f"{folder} holds no .txt files of RACE.")
    return made


def _race_questions(record: Record, path: Path) -> Iterator[Raw]:
    answers = record.get("answers") or [None] * len(record["questions"])
    for number, (question, options, answer) in enumerate(zip(record["questions"], record["options"], answers, strict=True)):
        place = f"{path.parent.name}/{path.name}:{number}"
        flat = {"article": record["article"], "question": question, "options": options, "answer": answer}
        yield _race({**flat, "example_id": record.get("id") or path.name}, place)


def _race(record: Record, place: str) -> Raw:
    texts = (" ".join(str(record["article"]).split()), " ".join(str(record["question"]).split()))
    options = tuple(" ".join(str(option).split()) for option in record["options"])
    answer = record.get("answer")
    label = str("ABCDEFGHIJ".index(answer.strip().upper())) if answer else None
    return Raw(place, texts, label, options, unit=str(record["example_id"]), index=place)


_FLAT: dict[str, Callable[[Record, str], Raw]] = {
    "copa": _copa,
    "multirc": _multirc,
    "record": _record,
    "wic": _wic,
    "wsc": _wsc,
    "race": _race,
}


def _index(record: Record) -> str:
    return str(record["idx"]) if "idx" in record else ""


def _value(value: Any) -> str | None:
    if value is None or value == -1:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
