"""How much faster a batch of mixed lengths is answered where nothing is paid for padding."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bort.export.convert import onnx_file, quantise
from bort.export.serving import Runtime, plan
from bort.measure.backends import Forms
from bort.measure.blocks import BlockFile
from bort.measure.config import MIXES, BenchmarkConfig
from bort.measure.environment import BUSY, Occupation, environment, load, processors
from bort.measure.harness import Series, time_series
from bort.measure.models import Spec, resolve
from bort.measure.series import Maker
from bort.measure.statistics import ratio_of_medians, summary
from bort.observer import Observer, Quiet
from bort.randomness import keyed_generator

#: The least, every twentieth and the greatest of the lengths in tokens of an uncased WordPiece vocabulary of 30,522, special tokens
#: included: film reviews of one sentence (Rotten Tomatoes, 8,530 of them), pairs of sentences (MRPC, 3,576), paragraphs of
#: Wikipedia (WikiText-2, 1,841, cut at 512).
_QUANTILES = {
    "sentences": (3, 10, 13, 15, 17, 19, 21, 22, 24, 25, 27, 28, 29, 31, 33, 35, 37, 40, 43, 47, 78),
    "pairs": (19, 32, 36, 39, 41, 44, 45, 47, 50, 51, 53, 55, 57, 59, 61, 63, 65, 67, 70, 74, 103),
    "paragraphs": (3, 12, 24, 42, 58, 71, 86, 99, 109, 121, 133, 144, 155, 167, 182, 199, 213, 235, 261, 300, 512),
}


def draw_lengths(mix: str, count: int, seed: int) -> list[int]:
    """Returns ``count`` lengths in tokens, drawn from a mix.

    Args:
        mix: ``sentences``, ``pairs`` or ``paragraphs``.
        count: How many.
        seed: Of the draw.
    """
    quantiles = _QUANTILES[mix]
    places = keyed_generator(seed, MIXES.index(mix)).random(count)
    return [round(float(length)) for length in np.interp(places, np.linspace(0, 1, len(quantiles)), quantiles)]


#: How a batch of requests is answered.
WAYS = ("padded", "one by one", "planned")

#: What is asked: so many times faster than the padded batch.
TARGET = 1.5


def measure_serving(
    models: Mapping[str, Spec], *, config: BenchmarkConfig, path: Path | None = None, observer: Observer | None = None
) -> list[dict[str, Any]]:
    """Times batches of requests whose lengths are those of real texts, in ONNX Runtime: padded, one by one, and planned.

    Args:
        models: What to time, as for :func:`bort.measure.measure`.
        config: ``mixes``, ``requests``, ``backends`` (onnx and int8 of them), repeats, warm-up, threads and seed.
        path: A file that is written after each model, and from which an interrupted measurement goes on; None for none.
        observer: Told of progress, and warned when the machine is busy.

    Returns:
        A row for each model, backend, mix and way: ``model``, ``backend``, ``mix``, ``way``, ``requests``, ``tokens`` (without
        padding), ``computed_tokens`` (with it), ``calls``, the percentiles, ``processor_ms``, ``faster`` (than padded, with low and
        high; None for padded itself), ``difference`` (the largest from the padded batch) and ``busy``; a planned batch also has
        ``met``.

    Raises:
        BortError: A model cannot be loaded, converted or run, or takes shorter sequences than the mix has.
    """
    observer = observer or Quiet()
    threads = config.threads or processors()
    kept = ("part", "mixes", "requests", "repeats", "warmup", "seconds", "seed", "backends")
    identity = {name: value for name, value in asdict(config).items() if name in kept} | {"threads": threads, "ways": list(WAYS)}
    file = BlockFile(path, identity, environment(threads), observer)
    rows = []
    for name, spec in models.items():
        if name not in file.blocks:
            observer.progress("serving", len(file.blocks), len(models), f"preparing {name}")
            file.add(name, _measure(name, spec, config, threads))
        if file.blocks[name]["busy"]:
            observer.warn(f"The machine was busy while {name} answered requests: read its latencies with care.")
        rows += [{"model": name, **row, "busy": file.blocks[name]["busy"]} for row in file.blocks[name]["rows"]]
    observer.progress("serving", len(models), len(models))
    return rows


def _measure(name: str, spec: Spec, config: BenchmarkConfig, threads: int) -> dict[str, Any]:
    maker = Maker(config, threads, onnx_file, quantise)
    with tempfile.TemporaryDirectory(prefix="bort-serving-") as folder:
        forms = maker.forms(name, resolve(name, spec), Path(folder))
        # Both files are made before anything is timed.
        files = {backend: forms.full() if backend == "onnx" else forms.small() for backend in _backends(forms, config)}
        occupation, started, before = Occupation(), time.monotonic(), load()
        rows = [
            row
            for place, (backend, path) in enumerate(files.items())
            for number, mix in enumerate(config.mixes)
            for row in _rows(Runtime(path, threads=threads), backend, mix, config, place * len(config.mixes) + number)
        ]
        share = occupation.others()
    circumstances = {"load": before, "others_share": share, "seconds": time.monotonic() - started}
    return {"rows": rows, "busy": share is not None and share > BUSY, **circumstances}


def _backends(forms: Forms, config: BenchmarkConfig) -> list[str]:
    able = ("onnx", "int8") if forms.model is not None else ("onnx",)
    return [backend for backend in config.backends if backend in able]


def _rows(runtime: Runtime, backend: str, mix: str, config: BenchmarkConfig, number: int) -> list[dict[str, Any]]:
    lengths = [min(length, runtime.positions) for length in draw_lengths(mix, config.requests, config.seed)]
    drawn = keyed_generator(config.seed, 1 + number)
    requests = [drawn.integers(0, runtime.vocabulary, size=length).tolist() for length in lengths]
    everything = runtime.padded(requests)
    calls = {
        "padded": [list(range(len(lengths)))],
        "one by one": [[place] for place in range(len(lengths))],
        "planned": plan(lengths),
    }
    answers = {
        "padded": runtime.padded,
        "one by one": lambda asked: [runtime.padded([request])[0] for request in asked],
        "planned": runtime.outputs,
    }
    series = [Series(way, backend, lambda _, answer=answers[way]: answer(requests)) for way in WAYS]  # type: ignore[misc]
    time_series(series, np.zeros((1, 1), np.int64), config, number)
    times = {one.model: np.array(one.milliseconds) for one in series}
    rows = []
    for one in series:
        way = one.model
        found = answers[way](requests)
        faster = None
        if way != "padded":
            faster = ratio_of_medians(
                times["padded"], times[way], confidence=config.confidence, resamples=config.resamples, seed=config.seed
            )
        row = {
            "backend": backend,
            "mix": mix,
            "way": way,
            "requests": len(lengths),
            "tokens": sum(lengths),
            "computed_tokens": sum(len(call) * max(lengths[place] for place in call) for call in calls[way]),
            "calls": len(calls[way]),
            **summary(times[way]),
            "processor_ms": float(np.median(one.processor_milliseconds)),
            "faster": faster,
            "difference": max(float(np.abs(mine - theirs).max()) for mine, theirs in zip(found, everything, strict=True)),
        }
        if way == "planned" and faster is not None:
            row["met"] = faster["low"] >= TARGET
        rows.append(row)
    return rows
