"""Times models side by side: interleaved rounds, percentiles, processor time, and the circumstances they were measured in."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.events import Observer, Quiet
from bort.measure.config import BenchmarkConfig
from bort.measure.environment import BUSY, Occupation, environment, processors
from bort.measure.models import ENCODER, Spec, build_model, first_output, load_model, quiet, resolve, usable_positions
from bort.measure.published import PublishedModel
from bort.measure.runtime import feed, open_session, vocabulary_and_positions
from bort.measure.statistics import ratio_of_medians, summary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ids = NDArray[np.int64]
#: Turns a model in memory into an ONNX file: ``bort.export.onnx_file`` fits.
Converter = Callable[["PreTrainedModel", Path], object]

_LEAST_ROUNDS = 5


@dataclass
class Series:
    """One model on one backend: ``call`` takes token ids [B, S] and runs one forward pass."""

    model: str
    backend: str
    call: Callable[[Ids], object]
    milliseconds: list[float] = field(default_factory=list)
    processor_milliseconds: list[float] = field(default_factory=list)


def measure(
    models: Mapping[str, Spec],
    *,
    config: BenchmarkConfig,
    converter: Converter | None = None,
    directory: Path | None = None,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Times every model on every backend over the grid of batch sizes and sequence lengths.

    Args:
        models: What to time, by the name it shall have in the table: a transformers directory, an export's directory, an ONNX file,
            a published name, or an architecture (random weights: time does not depend on their values). An ONNX file has no eager
            form.
        config: Backends, grid, repeats and threads.
        converter: Makes the ONNX file of a model that is not one already.
        directory: Where converted files go; None for a temporary directory.
        observer: Told of progress, and warned when the machine is busy.

    Returns:
        ``rows`` (one per cell and series: p50_ms, p90_ms, p99_ms, mean_ms, least_ms, repeats, processor_ms, tokens_per_second,
        samples_ms), ``ratios`` (how many times faster a series is than the reference, with low and high), ``models`` (what each
        name stands for), ``environment``, ``others_share``, ``busy`` and ``settings``.

    Raises:
        BortError: A model cannot be loaded, takes shorter sequences than asked for, or lacks an ONNX form.
    """
    config.check()
    observer = observer or Quiet()
    if not models:
        raise BortError("There is no model to measure: name at least one.")
    reference = config.reference or next(iter(models))
    if reference not in models:
        raise ConfigurationError("benchmark.reference", reference, f"one of the measured models, {', '.join(models)}, is accepted")
    threads = config.threads or processors()
    with tempfile.TemporaryDirectory(prefix="bort-benchmark-") as temporary, torch_threads(threads):
        made = SeriesMaker(config, converter, directory or Path(temporary), threads, observer)
        for name, spec in models.items():
            made.add(name, resolve(name, spec))
        circumstances = environment(threads)
        occupation = Occupation()
        rows: list[dict[str, Any]] = []
        ratios: list[dict[str, Any]] = []
        cells = [(batch, length) for batch in config.batch for length in config.sequence_length]
        for number, (batch, length) in enumerate(cells):
            note = f"batch {batch}, {length} tokens"
            _time_cell(made.series, number, batch, length, made.vocabulary, config, observer, (number, len(cells), note))
            cell = {"batch": batch, "sequence_length": length}
            rows.extend(_row(series, cell) for series in made.series)
            ratios.extend(_ratios(made.series, reference, cell, config))
        share = occupation.others()
    busy = share is not None and share > BUSY
    if busy:
        observer.warn(f"Other processes took {share:.0%} of this machine during the benchmark: read its latencies with care.")
    return {
        "rows": rows,
        "ratios": ratios,
        "reference": reference,
        "models": made.facts,
        "environment": circumstances,
        "others_share": share,
        "busy": busy,
        "settings": asdict(config),
    }


class SeriesMaker:
    """Makes the series of each model.

    Args:
        config: Backends, part and grid.
        converter: Makes ONNX files.
        directory: Where they go.
        threads: Threads of ONNX Runtime; torch's are the caller's to set.
        observer: Told of progress.
        device: Where PyTorch runs the models, ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        config: BenchmarkConfig,
        converter: Converter | None,
        directory: Path,
        threads: int,
        observer: Observer,
        device: str = "cpu",
    ) -> None:
        self.config, self.converter, self.directory, self.threads, self.observer = config, converter, directory, threads, observer
        self.device = device
        self.series: list[Series] = []
        self.facts: dict[str, dict[str, Any]] = {}
        self.vocabulary = 1 << 30

    def add(self, name: str, found: Path | Architecture | PublishedModel) -> None:
        """Adds the series of a model that :func:`bort.measure.models.resolve` found."""
        if isinstance(found, Path) and found.suffix == ".onnx":
            if "onnx" not in self.config.backends:
                raise BortError(f"{name}={found} is an ONNX file: add onnx to benchmark.backends, or give a model directory.")
            self.facts[name] = {"from": str(found), "bytes": found.stat().st_size}
            self._add_onnx(name, found)
            return
        self.observer.progress("benchmark", 0, 1, f"preparing {name}")
        whole = self.config.part == "whole"
        model = load_model(found, None if whole else ENCODER) if isinstance(found, Path) else build_model(found)
        # An export keeps the ONNX file of the whole model beside its transformers directory.
        exported = found.parent / "onnx" / "model.onnx" if isinstance(found, Path) and found.name == "transformers" else None
        ready = exported if whole and exported and exported.is_file() else None
        self.add_model(name, model, found.name if isinstance(found, PublishedModel) else str(found), ready)

    def add_model(self, name: str, model: PreTrainedModel, origin: str, ready: Path | None = None) -> None:
        """Adds the series of a model in memory.

        Args:
            name: Its name in the table.
            model: The model, in evaluation mode.
            origin: What it stands for.
            ready: Its ONNX file, where there is one.
        """
        if self.config.part != "whole" and hasattr(model, "pooler"):
            # The encoder's output does not pass through it, and ONNX leaves it out.
            model.pooler = None
        self._limit(name, int(model.config.vocab_size), usable_positions(model, max(self.config.sequence_length)))
        self.facts[name] = {
            "from": origin,
            "class": type(model).__name__,
            "architecture": _architecture(model),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        if "eager" in self.config.backends:
            self.series.append(Series(name, "eager", _eager(model.to(self.device), self.device)))
        if "onnx" in self.config.backends:
            ready = ready or self._convert(name, model)
            self.facts[name]["onnx_bytes"] = ready.stat().st_size
            self._add_onnx(name, ready)

    def _limit(self, name: str, vocabulary: int, positions: int) -> None:
        """Makes sure that every series can take the same token ids."""
        self.vocabulary = min(self.vocabulary, vocabulary)
        longest = max(self.config.sequence_length)
        if positions < longest:
            raise ConfigurationError("benchmark.sequence_length", longest, f"{name} takes sequences of at most {positions} tokens")

    def _convert(self, name: str, model: PreTrainedModel) -> Path:
        if self.converter is None:
            raise BortError(f"{name} has no ONNX file: export it first, or take onnx out of benchmark.backends.")
        path = self.directory / f"{len(self.facts)}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.converter(model, path)
        return path

    def _add_onnx(self, name: str, path: Path) -> None:
        session = open_session(path, self.threads)
        self._limit(name, *vocabulary_and_positions(session))

        def call(input_ids: Ids) -> object:
            return session.run(None, feed(session, input_ids, np.ones_like(input_ids)))

        self.series.append(Series(name, "onnx", call))


def _eager(model: PreTrainedModel, device: str) -> Callable[[Ids], object]:
    import torch

    def call(input_ids: Ids) -> object:
        with torch.inference_mode():
            ids = torch.from_numpy(input_ids).to(device)
            output = first_output(model, ids, torch.ones_like(ids))
            if device == "cuda":
                # Calls only queue the work; what is timed ends when it is done.
                torch.cuda.synchronize()
            return output

    return call


def _time_cell(
    series: list[Series],
    number: int,
    batch: int,
    length: int,
    vocabulary: int,
    config: BenchmarkConfig,
    observer: Observer,
    place: tuple[int, int, str],
) -> None:
    """Fills every series with its times for one batch size and sequence length."""
    ids = np.random.Generator(np.random.Philox(key=[config.seed, number])).integers(0, vocabulary, size=(batch, length))
    for one in series:
        one.milliseconds.clear()
        one.processor_milliseconds.clear()
        for _ in range(config.warmup):
            one.call(ids)
    done, cells, note = place
    start = time.perf_counter()
    with no_collection():
        for turn in range(config.repeats):
            run_round(series, ids, (config.seed, (number << 32) + turn + 1))
            observer.progress("benchmark", done + (turn + 1) / config.repeats, cells, note)
            if config.seconds is not None and turn + 1 >= _LEAST_ROUNDS and time.perf_counter() - start > config.seconds:
                break
    observer.progress("benchmark", done + 1, cells, note)


def run_round(series: Sequence[Series], ids: Ids, key: tuple[int, int]) -> None:
    """Calls every series once, in an order drawn from ``key``, and adds what each call took to its times."""
    for index in np.random.Generator(np.random.Philox(key=key)).permutation(len(series)):
        one = series[index]
        processor, wall = time.process_time(), time.perf_counter()
        one.call(ids)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        one.milliseconds.append(wall * 1e3)
        one.processor_milliseconds.append(processor * 1e3)


def _row(series: Series, cell: Mapping[str, int]) -> dict[str, Any]:
    times = np.array(series.milliseconds)
    figures = summary(times)
    return {
        "model": series.model,
        "backend": series.backend,
        **cell,
        **figures,
        "processor_ms": float(np.median(series.processor_milliseconds)),
        "tokens_per_second": cell["batch"] * cell["sequence_length"] / figures["p50_ms"] * 1e3,
        "samples_ms": [round(value, 4) for value in series.milliseconds],
    }


def _ratios(series: list[Series], reference: str, cell: Mapping[str, int], config: BenchmarkConfig) -> list[dict[str, Any]]:
    """Compares each series with the reference on the same backend, with the eager reference, and with its own eager form."""
    by_name = {(one.model, one.backend): np.array(one.milliseconds) for one in series}
    ratios = []
    for (model, backend), fast in by_name.items():
        for other in dict.fromkeys([(reference, backend), (reference, "eager"), (model, "eager")]):
            if other == (model, backend) or other not in by_name:
                continue
            figures = ratio_of_medians(
                by_name[other], fast, confidence=config.confidence, resamples=config.resamples, seed=config.seed
            )
            ratios.append({"model": model, "backend": backend, "over_model": other[0], "over_backend": other[1], **cell, **figures})
    return ratios


def _architecture(model: PreTrainedModel) -> str | None:
    config = model.config
    fields = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    values = [value for name in fields if isinstance(value := getattr(config, name, None), int)]
    return str(Architecture(*values)) if len(values) == len(fields) else None


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Gives PyTorch so many threads for a while."""
    with quiet():
        import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def no_collection() -> Iterator[None]:
    """Keeps Python's garbage collector from falling into somebody's call."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
