"""Times models side by side: percentiles, processor time, ratios with intervals, and the circumstances they were measured in."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bort.errors import BortError, ConfigurationError
from bort.measure.backends import BACKENDS, Converter, Quantiser
from bort.measure.blocks import BlockFile
from bort.measure.comparison import Cell, Comparison, targets
from bort.measure.config import BenchmarkConfig
from bort.measure.environment import BUSY, Occupation, environment, load, processors
from bort.measure.harness import Series, time_series, torch_threads
from bort.measure.models import Spec, positions, resolve
from bort.measure.series import Maker, Subject, accelerator, backends_of
from bort.measure.statistics import summary
from bort.observer import Observer, Quiet
from bort.randomness import keyed_generator
from bort.settings import check_settings


def measure(
    models: Mapping[str, Spec],
    *,
    config: BenchmarkConfig,
    converter: Converter | None = None,
    quantiser: Quantiser | None = None,
    path: Path | None = None,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Times every model on every backend over the grid of batch sizes and sequence lengths.

    Args:
        models: What to time, by the name it shall have in the table: a transformers directory, an export's directory, an ONNX file,
            a published name, or an architecture (random weights: time does not depend on their values). An ONNX file runs on the
            backend onnx alone.
        config: Backends, grid, repeats and threads; its ``models`` are the caller's to resolve.
        converter: Makes the ONNX file of a model that is not one already.
        quantiser: Makes the int8 form of an ONNX file.
        path: A file that is written after each model, and from which an interrupted measurement goes on; None for none.
        observer: Told of progress, and warned when the machine is busy.

    Returns:
        ``rows`` (one per cell and series: p50_ms, p90_ms, p99_ms, mean_ms, least_ms, repeats, processor_ms, tokens_per_second,
        busy, samples_ms), ``ratios`` (how many times faster a series is than another, with low and high), ``targets`` (what is
        asked of Bort's shapes, and whether it is met), ``models`` (what each name stands for, and the load while it was measured),
        ``reference``, ``anchor``, ``environment``, ``others_share``, ``busy``, ``seconds`` and ``settings``.

    Raises:
        BortError: A model cannot be loaded, takes shorter sequences than asked for, or lacks a form that a backend runs; this
            machine lacks what a backend needs.
    """
    check_settings(config, "benchmark")
    observer = observer or Quiet()
    found = _subjects(models, config)
    reference = config.reference or next(iter(found))
    for key, name in (("reference", reference), *(("over", name) for name in config.over)):
        if name not in found:
            raise ConfigurationError(f"benchmark.{key}", name, f"one of the measured models, {', '.join(found)}")
    for backend in config.backends:
        BACKENDS[backend].require()
    anchor = (reference, backends_of(found[reference], config)[0])
    threads = config.threads or processors()
    file = BlockFile(path, _identity(config, found, anchor, threads), environment(threads) | accelerator(config), observer)
    missing = [name for name in found if name not in file.blocks]
    if missing:
        with torch_threads(threads):
            grid = _Grid(found, anchor, config, threads, converter, quantiser, observer)
            for name in missing:
                file.add(name, grid.block(name, len(file.blocks)))
    return _result({name: file.blocks[name] for name in found}, anchor, config, file.environment, observer)


def _subjects(models: Mapping[str, Spec], config: BenchmarkConfig) -> dict[str, Subject]:
    """Finds every model, and refuses one that the grid is not for before any is measured."""
    if not models:
        raise BortError("There is no model to measure: name at least one.")
    found = {name: resolve(name, spec) for name, spec in models.items()}
    longest = max(config.sequence_length)
    for name, subject in found.items():
        if not backends_of(subject, config):
            raise BortError(f"{name}={subject} is an ONNX file: add onnx to benchmark.backends, or give a model directory.")
        if (most := positions(subject)) < longest:
            raise ConfigurationError("benchmark.sequence_length", longest, f"<= {most}, the most tokens that {name} reads")
    return found


def _identity(config: BenchmarkConfig, found: Mapping[str, Subject], anchor: tuple[str, str], threads: int) -> dict[str, Any]:
    kept = ("backends", "part", "batch", "sequence_length", "repeats", "warmup", "seconds", "seed")
    settings = {name: value for name, value in asdict(config).items() if name in kept}
    return {**settings, "threads": threads, "anchor": list(anchor), "anchor_is": str(found[anchor[0]])}


class _Grid:
    """Measures one model after another; the anchor stays in memory."""

    def __init__(
        self,
        found: Mapping[str, Subject],
        anchor: tuple[str, str],
        config: BenchmarkConfig,
        threads: int,
        converter: Converter | None,
        quantiser: Quantiser | None,
        observer: Observer,
    ) -> None:
        self.found, self.anchor, self.config, self.observer = found, anchor, config, observer
        self.maker = Maker(config, threads, converter, quantiser)
        self.cells: list[Cell] = [(batch, length) for batch in config.batch for length in config.sequence_length]
        self._beside: tuple[Series, int] | None = None

    def block(self, name: str, done: int) -> dict[str, Any]:
        """Returns what is measured of one model: its facts, its cells, and the circumstances."""
        total = len(self.found)
        self.observer.progress("benchmark", done, total, f"preparing {name}")
        with tempfile.TemporaryDirectory(prefix="bort-benchmark-") as temporary:
            own, facts, vocabulary = self.maker.make(name, self.found[name], Path(temporary))
            beside: list[Series] = []
            if name != self.anchor[0]:
                series, anchors_vocabulary = self._anchor_series()
                beside, vocabulary = [series], min(vocabulary, anchors_vocabulary)
            occupation, started, before = Occupation(), time.monotonic(), load()
            cells = []
            for number, (batch, length) in enumerate(self.cells):
                ids = keyed_generator(self.config.seed, number).integers(0, vocabulary, (batch, length))
                note = f"{name}, batch {batch}, {length} tokens"

                def told(share: float, place: int = number, note: str = note) -> None:
                    self.observer.progress("benchmark", done + (place + share) / len(self.cells), total, note)

                time_series([*own, *beside], ids, self.config, number, told)
                cell: dict[str, Any] = {"batch": batch, "sequence_length": length}
                cell["series"] = {one.backend: _times(one) for one in own}
                cell["anchor"] = _times(beside[0]) if beside else None
                cells.append(cell)
            share = occupation.others()
            circumstances = {"load": before, "others_share": share, "seconds": time.monotonic() - started}
        return {"facts": facts, "cells": cells, "busy": share is not None and share > BUSY, **circumstances}

    def _anchor_series(self) -> tuple[Series, int]:
        if self._beside is None:
            model, backend = self.anchor
            # Its files may go when it is loaded: ONNX Runtime holds the weights in memory.
            with tempfile.TemporaryDirectory(prefix="bort-benchmark-") as temporary:
                (series,), _, vocabulary = self.maker.make(model, self.found[model], Path(temporary), only=backend)
            self._beside = series, vocabulary
        return self._beside


def _times(series: Series) -> dict[str, Any]:
    return {
        "samples_ms": [round(value, 4) for value in series.milliseconds],
        "processor_ms": float(np.median(series.processor_milliseconds)),
    }


def _result(
    blocks: Mapping[str, Mapping[str, Any]],
    anchor: tuple[str, str],
    config: BenchmarkConfig,
    circumstances: Mapping[str, Any],
    observer: Observer,
) -> dict[str, Any]:
    comparison = Comparison(blocks, anchor, config)
    over = list(dict.fromkeys([anchor[0], *config.over]))
    seconds = sum(block["seconds"] for block in blocks.values())
    known = [(block["others_share"], block["seconds"]) for block in blocks.values() if block["others_share"] is not None]
    share = sum(part * took for part, took in known) / sum(took for _, took in known) if known else None
    busy = [name for name, block in blocks.items() if block["busy"]]
    if busy:
        worst = max(blocks[name]["others_share"] for name in busy)
        which = "during the benchmark" if len(busy) == len(blocks) else f"while {', '.join(busy)} were measured"
        observer.warn(f"Other processes took up to {worst:.0%} of this machine {which}: read these latencies with care.")
    facts = {
        name: {**block["facts"], **{key: block[key] for key in ("load", "others_share", "busy", "seconds")}}
        for name, block in blocks.items()
    }
    return {
        "rows": list(_rows(blocks, comparison.cells())),
        "ratios": comparison.ratios(over),
        "targets": targets(facts, comparison),
        "reference": anchor[0],
        "anchor": {"model": anchor[0], "backend": anchor[1]},
        "models": facts,
        "environment": dict(circumstances),
        "others_share": share,
        "busy": bool(busy),
        "seconds": seconds,
        "settings": asdict(config),
    }


def _rows(blocks: Mapping[str, Mapping[str, Any]], cells: list[Cell]) -> Iterator[dict[str, Any]]:
    for batch, length in cells:
        for name, block in blocks.items():
            for cell in block["cells"]:
                if (cell["batch"], cell["sequence_length"]) != (batch, length):
                    continue
                for backend, times in cell["series"].items():
                    figures = summary(np.array(times["samples_ms"]))
                    yield {
                        "model": name,
                        "backend": backend,
                        "batch": batch,
                        "sequence_length": length,
                        **figures,
                        "processor_ms": times["processor_ms"],
                        "tokens_per_second": batch * length / figures["p50_ms"] * 1e3,
                        "busy": block["busy"],
                        "samples_ms": times["samples_ms"],
                    }
