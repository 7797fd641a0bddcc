"""Every reader of outside input, with sound inputs for it and the call that reads them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import stores
from tests.fuzz.engine import Reader
from tests.fuzz.settings import overrides, settings
from tests.fuzz.sound import as_lines, write

_ROWS = [(f"the film number {n}, it was good", "a, b", n % 2, n / 4) for n in range(14)]


# --- tables: a task of the user's own ---------------------------------------------------------------------------------------

_TABLE_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("train.csv", {}),
    "quoted": ("train.csv", {"malformed": "skip", "text": "text,other"}),
    "tsv": ("train.tsv", {"text": "text,other"}),
    "headless": ("train.tsv", {"header": False, "text": "0", "label": "2"}),
    "jsonl": ("train.jsonl", {"text": "text,other"}),
    "gzip": ("train.jsonl.gz", {}),
    "regression": ("train.csv", {"kind": "regression", "label": "score"}),
    "choice": ("train.jsonl", {"kind": "choice", "text": "text", "options": "options"}),
    "test": ("test.csv", {"labels": ["0", "1"]}),
}


def _tables() -> dict[str, list[bytes]]:
    head = ["text", "other", "label", "score"]
    rows = [dict(zip(head, row, strict=True)) for row in _ROWS]
    csv = ",".join(head) + "\n" + "".join(f'"{a}",{b.replace(", ", "")},{label},{score}\n' for a, b, label, score in _ROWS)
    tsv = "\t".join(head) + "\n" + "".join("\t".join(map(str, row)) + "\n" for row in _ROWS)
    quoted = csv.replace("it was", 'it ""was""\n').encode()
    choice = as_lines(
        [
            {"text": f"q {n}", "options": ["yes", "no", f"maybe {n}"], "label": (n % 3, "ABC"[n % 3], "yes")[n % 3]}
            for n in range(12)
        ]
    )
    jsonl = as_lines(rows)
    return {
        "csv": [csv.encode(), b"\xef\xbb\xbf" + csv.replace("\n", "\r\n").encode()],
        "quoted": [quoted, csv.encode()],
        "tsv": [tsv.encode()],
        "headless": [tsv.partition("\n")[2].encode()],
        "jsonl": [jsonl, jsonl.replace(b'"label": 1', b'"label": true').replace(b'"label": 0', b'"label": false')],
        "gzip": [gzip.compress(jsonl, mtime=0)],
        "regression": [csv.encode()],
        "choice": [choice],
        "test": [csv.encode()],
    }


def _read_table(variant: str, data: bytes, folder: Path) -> object:
    from bort.tasks.config import TaskConfig
    from bort.tasks.load import load_task

    name, changes = _TABLE_SETTINGS[variant]
    config = TaskConfig(**{"steering": 2, "heldout": 3, **changes})
    path = str(write(folder, name, data))
    if variant == "test":
        config.train, config.test = str(write(folder, "train.csv", _tables()["csv"][0].replace(b"film", b"book"))), path
    else:
        config.train = path
    return load_task(config).record()


# --- the official layouts of tasks ------------------------------------------------------------------------------------------

_OFFICIAL = {
    **{f"superglue/{name}": "train.jsonl" for name in ("boolq", "copa", "multirc", "record", "wic", "wsc")},
    "race/high": "train/high/1.txt",
    "glue/mrpc": "train.tsv",
}


@cache
def _official() -> dict[str, dict[str, bytes]]:
    """Returns a few files of each layout, by task and name."""
    import tempfile

    from tests.official import write_all

    with tempfile.TemporaryDirectory() as place:
        root = write_all(Path(place))
        found: dict[str, dict[str, bytes]] = {}
        for task in _OFFICIAL:
            suite, _, name = task.partition("/")
            if suite == "race":
                files = {
                    f"{split}/high/1.txt": next((root / "RACE" / split / "high").glob("*.txt"))
                    for split in ("train", "dev", "test")
                }
            else:
                home = next(one for one in (root / suite).iterdir() if one.name.lower() == name)
                files = {one.name: one for one in home.iterdir() if one.stem in ("train", "val", "dev")}
            found[task] = {place: _shortened(one) for place, one in files.items()}
    return found


def _shortened(file: Path) -> bytes:
    """Returns the first lines of a file: long passages are of no use here, and cost time."""
    lines = file.read_bytes().splitlines(keepends=True)
    return b"".join(lines if file.suffix == ".txt" else lines[:6]).replace(b" under the stairs", b"")


@cache
def _recipe(task: str) -> Any:
    from tests.official import recipe

    return recipe(task, ".", steering=1, train_examples=None)


def _read_task(variant: str, data: bytes, folder: Path) -> object:
    from dataclasses import replace

    from bort.tasks.load import load_task

    for name, content in _official()[variant].items():
        write(folder, name, data if name == _OFFICIAL[variant] else content)
    return load_task(replace(_recipe(variant), path=str(folder)), training=False).record()


# --- unlabelled text --------------------------------------------------------------------------------------------------------


def _texts() -> dict[str, list[bytes]]:
    plain = (
        "A story.\nIt rained, {{cite|x}} and <b>stopped</b>.\n\n= Title =\nÉtude [[link|word]] &amp; more.\n\n| a | b |\n".encode()
    )
    records = as_lines([{"text": f"document {n}\nwith two lines", "id": n} for n in range(4)])
    table = b'id,text\n1,"first, with a comma"\n2,second\n'
    return {
        "txt": [plain, plain.replace(b"\n", b"\r\n")],
        "pattern": [plain],
        "jsonl": [records],
        "csv": [table],
        "tsv": [table.replace(b",", b"\t")],
        "txt.gz": [gzip.compress(plain, mtime=0)],
        "parquet": [_parquet()],
    }


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["one", "two"], "id": [1, 2]}), file)
    return file.getvalue()


@cache
def _encoder() -> Any:
    from tokenizers import Tokenizer, models

    from bort.corpus.config import CleaningConfig, CorpusConfig
    from bort.corpus.encode import Encoder

    bare = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    cleaning = CleaningConfig(tables=True, language="en", min_words=1)
    return Encoder(
        CorpusConfig(path="x", markup=["html", "wiki"], cleaning=cleaning, invalid_utf8="skip"), bare, np.dtype(np.uint16)
    )


def _read_text(variant: str, data: bytes, folder: Path) -> object:
    from bort.corpus.config import SourceConfig
    from bort.corpus.readers import FileRows

    suffix = "txt" if variant == "pattern" else variant
    path = write(folder, f"part.{suffix}", data)
    source = SourceConfig(path=str(path), document=r"= .* =" if variant == "pattern" else None)
    return _encoder()(list(FileRows(source, "corpus", [path])))


def readers() -> dict[str, Reader]:
    """Returns every reader by name."""
    official = {task: [files[_OFFICIAL[task]]] for task, files in _official().items()}
    made: list[tuple[str, str, Mapping[str, Any], Callable[[str, bytes, Path], object]]] = [
        ("tables", "a user's own task: CSV, TSV, JSONL", _tables(), _read_table),
        ("tasks", "files of GLUE, SuperGLUE and RACE", official, _read_task),
        ("text", "text, tables and Parquet of a corpus", _texts(), _read_text),
        ("manifests", "manifests and results of stages, corpora and targets", stores.manifests(), stores.read_manifest),
        ("shards", "blocks of tokens, soft targets, parts", stores.shards(), stores.read_shard),
        ("params", "MXNet's .params", stores.params(), stores.read_params),
        ("checkpoints", "checkpoints and headers of safetensors", stores.checkpoints(), stores.read_checkpoint),
        ("journals", "studies, curves, measured tables", stores.journals(), stores.read_journal),
        ("spool", "the tracking spool and its cursor", stores.spools(), stores.read_spool),
    ]
    found = {name: Reader(name, what, variants, read) for name, what, variants, read in made}
    found["overrides"] = overrides()
    found["settings"] = settings()
    return found
