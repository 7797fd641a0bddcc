"""The files that the sites of GLUE and SuperGLUE accept, made from predictions on their unlabelled test sets."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.files import atomic_path
from bort.observer import Observer
from bort.tasks.task import Example, Task

#: What each site wants to find in a zip. Its other files may be missing here: the site then gives no score for them.
SUITES = {
    "GLUE": ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "AX"),
    "SuperGLUE": ("BoolQ", "CB", "COPA", "MultiRC", "ReCoRD", "RTE", "WiC", "WSC", "AX-b", "AX-g"),
}
#: Files in a zip carry this time, so that the same predictions make the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)


def submission_name(task: Task) -> str:
    """Returns the name of the task's file: the site's where it has one, else the task's own."""
    return task.submission or f"{task.name}.jsonl"


def submission_text(task: Task, predictions: Sequence[float]) -> str:
    """Returns the content of a submission file.

    A ``.tsv`` has the columns ``index`` and ``prediction``, with words for classes where the site wants words and three decimals
    within 0 to 5 for STS-B. A ``.jsonl`` has ``{"idx": …, "label": …}``: a word, the number of an option, or an entity's text; for
    MultiRC a passage a line, with its questions and their answers nested as in the data.

    Args:
        task: With its unlabelled examples.
        predictions: Indices of classes or options, or numbers, of these examples; length N.

    Raises:
        BortError: There are no unlabelled examples, one stands in twice, or their number is not that of the predictions.
    """
    examples = task.unlabelled
    if not examples:
        raise BortError(f"task {task.name} has no unlabelled test set to make a submission of; name one with task.unlabelled=FILE.")
    if len(predictions) != len(examples):
        raise BortError(f"task {task.name}: {len(predictions)} predictions for {len(examples)} test examples.")
    check_names(task)
    if submission_name(task).endswith(".tsv"):
        rows = [f"{one.index}\t{_word(task, one, found)}" for one, found in zip(examples, predictions, strict=True)]
        return "\n".join(["index\tprediction", *rows]) + "\n"
    if task.submission == "MultiRC.jsonl":
        records: Iterable[Mapping[str, Any]] = _multirc(examples, predictions)
    else:
        records = (
            {"idx": _number(one.index), "label": _label(task, one, found)} for one, found in zip(examples, predictions, strict=True)
        )
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def check_names(task: Task) -> None:
    """Refuses a test set that names an example twice.

    Raises:
        BortError: It does; the message names one.
    """
    counts = Counter(example.index for example in task.unlabelled)
    repeated = [index for index, count in counts.items() if count > 1]
    if repeated:
        raise BortError(
            f"task {task.name}: the test set names '{repeated[0]}' {counts[repeated[0]]} times ({len(repeated)} names repeat), so "
            "no submission can be made of it; give each example a name of its own under task.id."
        )


def _word(task: Task, example: Example, found: float) -> str:
    if task.kind == "regression":
        # STS-B is scored from 0 to 5; elsewhere nobody knows the limits.
        return f"{min(max(found, 0.0), 5.0) if task.submission == 'STS-B.tsv' else found:.3f}"
    return str(_label(task, example, found))


def _label(task: Task, example: Example, found: float) -> Any:
    if task.kind == "regression":
        return found
    if task.kind == "choice":
        return example.options[int(found)] if task.submission == "ReCoRD.jsonl" else int(found)
    name = task.labels[int(found)]
    return task.submission_labels.get(name, name)


def _number(index: str) -> int | str:
    """Returns the index as a number where it is one: the sites compare it with numbers."""
    return int(index) if index.isdecimal() else index


def _multirc(examples: Sequence[Example], predictions: Sequence[float]) -> list[dict[str, Any]]:
    passages: dict[int, dict[int, list[dict[str, int]]]] = {}
    for example, found in zip(examples, predictions, strict=True):
        passage, question, answer = (int(part) for part in example.index.split("-"))
        passages.setdefault(passage, {}).setdefault(question, []).append({"idx": answer, "label": int(found)})
    return [
        {"idx": passage, "passage": {"questions": [{"idx": idx, "answers": answers} for idx, answers in questions.items()]}}
        for passage, questions in passages.items()
    ]


def write_submission(task: Task, predictions: Sequence[float], directory: str | Path) -> dict[str, str]:
    """Writes the submission file of one task, and a zip that holds it.

    Args:
        task: With its unlabelled examples.
        predictions: Of these examples.
        directory: Gets ``<file>`` and ``submission.zip``.

    Returns:
        ``file`` and ``zip``: where they lie.

    Raises:
        BortError: See :func:`submission_text`; nothing is written then.
    """
    text, name, home = submission_text(task, predictions), submission_name(task), Path(directory)
    with atomic_path(home / name) as temporary:
        # The sites read lines that end in a line feed, whatever this system's end of line is.
        temporary.write_bytes(text.encode("utf-8"))
    return {"file": str(home / name), "zip": str(zip_submissions([home / name], home / "submission.zip"))}


def zip_submissions(files: Sequence[str | Path], target: str | Path) -> Path:
    """Puts submission files of several tasks into one zip, flat, as the sites want it.

    Args:
        files: Submission files, each of another name.
        target: The zip to write.

    Raises:
        BortError: A file is missing, or two have the same name.
    """
    paths = [Path(file) for file in files]
    names = Counter(path.name for path in paths)
    for path in paths:
        if not path.is_file():
            raise BortError(f"{path} is no submission file; `bort evaluate model=… task=…` writes them.")
        if names[path.name] > 1:
            raise BortError(f"{path.name} is given {names[path.name]} times; a submission holds each task once.")
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(paths, key=lambda path: path.name):
            archive.writestr(zipfile.ZipInfo(path.name, _TIME), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return Path(target)


def write_suite(files: Sequence[str | Path], directory: str | Path, observer: Observer) -> dict[str, Any]:
    """Zips the submission files of a suite's tasks for the site.

    Args:
        files: A file a task.
        directory: Gets ``GLUE.zip`` or ``SuperGLUE.zip``.
        observer: Told which files of the suite are missing: the site gives no average without them.

    Returns:
        ``suite``, ``suite_zip`` and ``missing``.

    Raises:
        BortError: A file is missing or given twice, or belongs to no suite.
    """
    suite, missing = suite_of(files)
    if missing:
        observer.warn(f"The submission to {suite} lacks {', '.join(missing)}.")
    path = zip_submissions(files, Path(directory) / f"{suite}.zip")
    return {"suite": suite, "suite_zip": str(path), "missing": missing}


def suite_of(files: Sequence[str | Path]) -> tuple[str, list[str]]:
    """Returns the suite that submission files belong to, and the files of it that are missing.

    Raises:
        BortError: A file belongs to no suite, or not to that of the others.
    """
    names = {Path(file).name for file in files}
    best = max(SUITES, key=lambda suite: len(names & _files(suite)))
    strange = sorted(names - _files(best))
    if strange:
        raise BortError(f"{strange[0]} is none of the files that {best} accepts: {', '.join(sorted(_files(best)))}.")
    return best, sorted(_files(best) - names)


def _files(suite: str) -> frozenset[str]:
    suffix = ".tsv" if suite == "GLUE" else ".jsonl"
    return frozenset(name + suffix for name in SUITES[suite])
