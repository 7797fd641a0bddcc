"""The measured latency of every shape of a search space, in one file that an interrupted measurement goes on from."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bort.architecture import POSITIONS, VOCABULARY, Architecture
from bort.errors import ConfigurationError
from bort.files import read_json, write_json
from bort.locks import exclusive
from bort.measure.backends import Forms
from bort.measure.config import BenchmarkConfig
from bort.measure.environment import BUSY, Occupation, environment, processors
from bort.measure.harness import Series, no_collection, run_round, torch_threads
from bort.measure.models import build_model
from bort.measure.series import Maker, without_pooler
from bort.measure.statistics import summary
from bort.observer import Observer, Quiet
from bort.randomness import keyed_generator
from bort.record import refuse_difference
from bort.settings import check_settings

if TYPE_CHECKING:
    from bort.measure.backends import Converter

SCHEMA = 1
#: Weights that are in memory at a time. A space that is larger is measured in groups.
GROUP_BYTES = 2 << 30
#: How often a space of several groups is gone through, each time in other groups: what the machine is doing at one hour then
#: falls on all shapes alike.
PASSES = 3
#: Seconds between two writes of what has been measured: what a kill costs.
WRITE_SECONDS = 5.0
#: Circumstances that must not change within one measurement.
_FIXED = ("processor", "accelerator", "versions")


def measure_shapes(
    shapes: Sequence[Architecture],
    *,
    config: BenchmarkConfig,
    path: Path | str,
    counts: Mapping[str, int] | None = None,
    device: str = "cpu",
    converter: Converter | None = None,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Times the encoder of every shape, with random weights, and returns what the file at ``path`` holds then.

    In each round every shape of a group is called once, in an order drawn for that round; groups are as large as memory allows, so
    that a small space is one group. Every ⟨D, A, H, I⟩ is timed by itself: shapes that differ in heads alone have equal counts, but
    not equal latencies. One process measures at a time. Another one that asks for the same file waits, and is given the same
    numbers; where the first one was killed it goes on from there.

    Args:
        shapes: What to time.
        config: One backend, one batch size, one sequence length, repeats, warm-up rounds, threads and seed.
        path: The file.
        counts: ``vocab_size``, ``positions`` and ``token_types`` of the models.
        device: Where PyTorch runs, ``cpu`` or ``cuda``.
        converter: Makes ONNX files, for the backend ``onnx``.
        observer: Told of progress, and warned when the machine is busy.

    Returns:
        ``identity`` (what was asked), ``done``, ``rows`` (p50_ms, p90_ms, p99_ms, mean_ms, least_ms and repeats by the shape's
        name), ``samples_ms``, ``environment``, ``others_share`` (of the machine that other processes took), ``busy`` and
        ``seconds``.

    Raises:
        BortError: A shape cannot be built.
        ConfigurationError: The shapes take shorter sequences than asked for.
        RecordError: The file holds the latencies of something else.
    """
    check_settings(config, "benchmark")
    observer = observer or Quiet()
    path = Path(path)
    longest, taken = max(config.sequence_length), (counts or {}).get("positions", POSITIONS)
    if longest > taken:
        raise ConfigurationError("benchmark.sequence_length", longest, f"<= {taken}, the most tokens that the shapes read")
    wanted = list(dict.fromkeys(shapes))
    lock = f".{path.name}.lock"
    with exclusive(path.parent, wait=False, name=lock) as mine:
        if mine:
            return _Measurement(wanted, config, path, dict(counts or {}), device, converter, observer).whole()
    observer.progress("latency", 0, 1, "another worker is measuring")
    with exclusive(path.parent, name=lock):
        return _Measurement(wanted, config, path, dict(counts or {}), device, converter, observer).whole()


class _Measurement:
    """One file and what is still to be added to it."""

    def __init__(
        self,
        shapes: list[Architecture],
        config: BenchmarkConfig,
        path: Path,
        counts: dict[str, int],
        device: str,
        converter: Converter | None,
        observer: Observer,
    ) -> None:
        self.shapes, self.config, self.path, self.counts = shapes, config, path, counts
        self.device, self.converter, self.observer = device, converter, observer
        self.threads = config.threads or processors()
        self.record: dict[str, Any] = {
            "schema": SCHEMA,
            "identity": self._identity(),
            "done": False,
            "environment": self._environment(),
            "others_share": None,
            "busy": False,
            "seconds": 0.0,
            "samples_ms": {str(shape): [] for shape in shapes},
        }
        self._read()

    def whole(self) -> dict[str, Any]:
        """Measures what is missing, and returns the record."""
        if not self.record["done"]:
            with tempfile.TemporaryDirectory(prefix="bort-latency-") as temporary, torch_threads(self.threads):
                self._measure(Path(temporary))
            samples = self.record["samples_ms"]
            self.record["rows"] = {name: summary(np.array(times)) for name, times in samples.items()}
            share = self.record["others_share"]
            self.record["busy"] = share is not None and share > BUSY
            self.record["done"] = True
            write_json(self.path, self.record)
            if self.record["busy"]:
                self.observer.warn(f"Other processes took {share:.0%} of this machine while latencies were measured.")
        return self.record

    def _identity(self) -> dict[str, Any]:
        kept = ("part", "batch", "sequence_length", "repeats", "warmup", "seed")
        settings = {name: value for name, value in asdict(self.config).items() if name in kept}
        return {"backend": self.config.backends[0], "device": self.device, "threads": self.threads, **settings, **self.counts}

    def _environment(self) -> dict[str, Any]:
        found = environment(self.threads)
        if self.device == "cuda":
            import torch

            found["accelerator"] = torch.cuda.get_device_name()
        return found

    def _read(self) -> None:
        """Takes over what the file holds."""
        if not self.path.exists():
            return
        known = read_json(self.path)
        there, here = (
            {**record.get("identity", {}), "shapes": sorted(record.get("samples_ms", {}))} for record in (known, self.record)
        )
        refuse_difference(self.path, "latencies", there, here)
        if not known["done"]:
            changed = [name for name in _FIXED if known["environment"].get(name) != self.record["environment"].get(name)]
            if changed:
                self.observer.warn(f"{self.path} was begun with another {' and '.join(changed)}: latencies are measured anew.")
                return
        self.record = known

    def _measure(self, directory: Path) -> None:
        groups = self._groups(0)
        passes = PASSES if len(groups) > 1 else 1
        for number in range(passes):
            target = self.config.repeats * (number + 1) // passes
            for place, group in enumerate(self._groups(number)):
                done = min(len(self.record["samples_ms"][str(shape)]) for shape in group)
                if done < target:
                    self._measure_group(group, done, target, (number << 16) + place, directory)

    def _groups(self, number: int) -> list[list[Architecture]]:
        """Returns the groups of one pass, of shapes drawn from all."""
        drawn = keyed_generator(self.config.seed, number).permutation(len(self.shapes))
        groups: list[list[Architecture]] = []
        room = 0.0
        for index in drawn:
            shape = self.shapes[index]
            # ONNX Runtime holds the weights beside the model that they come from.
            size = 4 * shape.parameters(self.counts.get("vocab_size", VOCABULARY)) * (2 if "onnx" in self.config.backends else 1)
            if not groups or size > room:
                groups.append([])
                room = float(GROUP_BYTES)
            groups[-1].append(shape)
            room -= size
        return groups

    def _measure_group(self, group: list[Architecture], done: int, target: int, key: int, directory: Path) -> None:
        samples = self.record["samples_ms"]
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            series = self._series(group, Path(folder))
            batch, length = self.config.batch[0], self.config.sequence_length[0]
            ids = keyed_generator(self.config.seed, key).integers(
                0, self.counts.get("vocab_size", VOCABULARY), size=(batch, length)
            )
            for one in series:
                for _ in range(self.config.warmup):
                    one.call(ids)
            started, occupation = time.monotonic(), Occupation()
            with no_collection():
                for turn in range(done, target):
                    run_round(series, ids, (self.config.seed, (key << 32) + turn + 1))
                    last = turn + 1 == target
                    if last or time.monotonic() - started > WRITE_SECONDS:
                        _take(series, samples)
                        self._write(time.monotonic() - started, occupation.others())
                        started, occupation = time.monotonic(), Occupation()
                    total = self.config.repeats * len(self.shapes)
                    taken = sum(len(times) for times in samples.values()) + sum(len(one.milliseconds) for one in series)
                    self.observer.progress("latency", taken, total, f"{len(self.shapes)} shapes")

    def _series(self, group: list[Architecture], folder: Path) -> list[Series]:
        maker = Maker(self.config, self.threads)
        backend = "cuda" if self.device == "cuda" else self.config.backends[0]
        series = []
        for shape in group:
            forms = Forms(str(shape), without_pooler(build_model(shape, **self.counts)), folder, converter=self.converter)
            series += maker.of_model(forms, str(shape), backend)[0]
        return series

    def _write(self, seconds: float, share: float | None) -> None:
        before, whole = self.record["seconds"], self.record["seconds"] + seconds
        known = self.record["others_share"]
        if share is not None and whole > 0:
            self.record["others_share"] = share if known is None else (known * before + share * seconds) / whole
        self.record["seconds"] = whole
        write_json(self.path, self.record)


def _take(series: Sequence[Series], samples: dict[str, list[float]]) -> None:
    """Moves what was measured to the record."""
    for one in series:
        samples[one.model].extend(round(value, 4) for value in one.milliseconds)
        one.milliseconds.clear()
        one.processor_milliseconds.clear()
