"""Feeds a reader inputs that are all functions of a seed, and keeps what it could not answer with a sentence."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from bort.errors import BortError
from tests.fuzz.mutate import mutate

#: Processor seconds after which an input counts as one on which the reader hangs.
PATIENCE = 10.0
#: Processor seconds for making a failing input smaller.
_SHRINKING = 3.0
_LONGEST_SENTENCE = 20_000


@dataclass(frozen=True)
class Reader:
    """Something that reads what others have written.

    Args:
        name: Its name.
        what: What it reads, for the table.
        variants: Sound inputs, by the way in which they are read.
        read: Reads an input (variant, content, an empty folder for files); raises an error of ours, a sentence, to refuse it.
        longest: Bytes at which inputs are cut: what is looked for needs no size, and inputs must stay cheap.
    """

    name: str
    what: str
    variants: Mapping[str, Sequence[bytes]]
    read: Callable[[str, bytes, Path], object]
    longest: int = 20_000


@dataclass
class Outcome:
    """What came of the inputs of one reader."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    crashed: int = 0
    hung: int = 0
    slowest: float = 0.0
    processor_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


class HangError(BaseException):
    """The reader took longer than anybody would wait; no reader catches it."""


def input_of(reader: Reader, seed: int, index: int) -> tuple[str, bytes]:
    """Returns input number ``index``: variant and content."""
    draw = Random(f"{reader.name}/{seed}/{index}")
    variant = draw.choice(sorted(reader.variants))
    return variant, mutate(reader.variants[variant], draw)[: reader.longest]


def fuzz(
    reader: Reader, inputs: int, seed: int, folder: Path, progress: Callable[[int], None] = lambda done: None, first: int = 0
) -> Outcome:
    """Feeds the inputs ``first`` to ``first + inputs`` of a seed.

    Args:
        reader: The reader.
        inputs: How many.
        seed: Fixes all of them.
        folder: For the files that are read; emptied of each.
        progress: Told of the number that is done.
        first: The first input's number.
    """
    outcome = Outcome()
    seen: set[str] = set()
    started = time.process_time()
    with patience():
        for index in range(first, first + inputs):
            variant, data = input_of(reader, seed, index)
            before = time.process_time()
            failure = attempt(reader, variant, data, folder)
            outcome.slowest = max(outcome.slowest, time.process_time() - before)
            outcome.inputs += 1
            if failure is None:
                outcome.read += 1
            elif failure == "":
                outcome.refused += 1
            else:
                outcome.hung += failure.startswith("HangError")
                outcome.crashed += not failure.startswith("HangError")
                if failure not in seen:
                    seen.add(failure)
                    small = _smaller(reader, variant, data, folder, failure)
                    outcome.failures.append({"index": index, "variant": variant, "failure": failure, "input": small})
            if not index % 100:
                progress(outcome.inputs)
    outcome.processor_seconds = time.process_time() - started
    return outcome


def attempt(reader: Reader, variant: str, data: bytes, folder: Path) -> str | None:
    """Feeds one input: returns ``None`` where it was read, ``""`` where it was refused, else what went wrong and where."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            reader.read(variant, data, folder)
        return None
    except BortError as error:
        told = str(error)
        good = told.strip() and len(told) < _LONGEST_SENTENCE and "Traceback" not in told
        return "" if good else f"{type(error).__name__}: no sentence"
    except (Exception, HangError) as error:
        return f"{type(error).__name__} in {_place(error)}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Raises :class:`HangError` in an input that takes too much processor time."""

    def hang(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGVTALRM, hang)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/bort/" in frame.filename or "/pipelines/" in frame.filename] or frames
    last = ours[-1]
    return f"{Path(last.filename).parent.name}/{Path(last.filename).name}:{last.name}"


def _smaller(reader: Reader, variant: str, data: bytes, folder: Path, failure: str) -> bytes:
    """Returns a shorter input that fails in the same way: pieces are left out as long as it does."""
    end = time.process_time() + _SHRINKING
    piece = max(1, len(data) // 2)
    while piece and time.process_time() < end and not failure.startswith("HangError"):
        start, shrunk = 0, False
        while start < len(data) and time.process_time() < end:
            shorter = data[:start] + data[start + piece :]
            if attempt(reader, variant, shorter, folder) == failure:
                data, shrunk = shorter, True
            else:
                start += piece
        piece = piece if shrunk else piece // 2
    return data


def seed_name(reader: str, variant: str, data: bytes) -> str:
    """Returns the file name under which a failing input is kept."""
    return f"{reader}~{variant}~{hashlib.sha256(data).hexdigest()[:10]}"
