"""The baselines of a task: each trained on train, chosen on steering, scored on held-out, with its size, latency and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bort.baselines.features import Features, LayerFeatures, TfidfFeatures
from bort.baselines.linear import LinearBaseline
from bort.baselines.names import TITLES
from bort.errors import BortError
from bort.observer import Observer, Quiet
from bort.tasks.intervals import bootstrap_interval
from bort.tasks.metrics import majority_baseline, score
from bort.tasks.task import Example, Task

if TYPE_CHECKING:
    from bort.teacher.features import TextEncoder

#: Dimensions of static vectors, as model2vec has by default.
STATIC_DIMENSIONS = 256
#: Single examples whose latency is measured after as many warm-up calls as the second number, in milliseconds.
_TIMED, _WARMUP = 40, 5


@dataclass(frozen=True)
class BaselineSources:
    """What baselines are made from beside the task.

    Attributes:
        open: Opens the encoder that embedding, static and frozen baselines read, with its parameters (pooler and head apart) and
            its digest; ``None`` if there is none at hand. Called once.
        cache: Folder for static vectors, which lie there under the encoder's digest; not cached if ``None``.
        largest: Parameters of the student, which ``static_small`` stays below; ``None`` without a student.
    """

    open: Callable[[], tuple[TextEncoder, int, str]] | None = None
    cache: Path | None = None
    largest: int | None = None

    @cached_property
    def encoder(self) -> tuple[TextEncoder, int, str]:
        """The encoder, its parameters and its digest.

        Raises:
            BortError: There is none, or it cannot be read.
        """
        if self.open is None:
            raise BortError("there is no encoder to read")
        return self.open()


def run_baselines(
    task: Task, names: Sequence[str], sources: BaselineSources, *, observer: Observer | None = None, resamples: int = 1000
) -> dict[str, dict[str, Any]]:
    """Train and score baselines.

    Args:
        task: The task.
        names: Keys of :data:`bort.baselines.names.TITLES`.
        sources: The encoder and caches.
        observer: Notified of progress, and warned of a baseline that cannot be had.
        resamples: Of the held-out examples, for the interval.

    Returns:
        For each baseline, by name: each metric of the task with ``mean`` (the score: one training), ``low`` and ``high`` (95 % over
        examples), and ``title``, ``parameters``, ``latency_ms`` (median of single examples, texts to prediction; ``None`` for the
        majority class), ``processor_seconds`` and ``strength``. A baseline that cannot be had is left out after a warning.
    """
    listener: Observer = observer or Quiet()
    found: dict[str, dict[str, Any]] = {}
    for done, name in enumerate(names):
        listener.progress("baselines", done, len(names), TITLES[name])
        try:
            found[name] = {"title": TITLES[name], **_run(name, task, sources, resamples)}
        except (BortError, ImportError, ValueError) as error:
            listener.warn(f"The baseline {name} is left out: {error}")
    listener.progress("baselines", len(names), len(names), "")
    return found


def _run(name: str, task: Task, sources: BaselineSources, resamples: int) -> dict[str, Any]:
    if name == "majority":
        metrics = majority_baseline(task)["metrics"]
        return {**{metric: {"mean": value, "low": value, "high": value} for metric, value in metrics.items()}, **_NOTHING}
    started = time.process_time()
    features, extra = _features(name, sources)
    model = LinearBaseline(features, task)
    predicted = model.predict(task.heldout)
    seconds = time.process_time() - started + extra
    values = score(task, predicted, task.heldout)
    return {
        **{
            metric: {"mean": value, **bootstrap_interval(task, metric, [predicted], resamples=resamples)}
            for metric, value in values.items()
        },
        "parameters": model.parameters,
        "latency_ms": single_latency(lambda example: model.predict([example]), task.heldout),
        "processor_seconds": seconds,
        "strength": model.strength,
        "steering": model.steering,
    }


_NOTHING = {"parameters": 0, "latency_ms": None, "processor_seconds": 0.0, "strength": None, "steering": None}


def _features(name: str, sources: BaselineSources) -> tuple[Features, float]:
    """Return the features of a baseline and the processor-seconds that were spent on them in an earlier run."""
    if name == "tfidf":
        return TfidfFeatures(), 0.0
    encoder, parameters, identity = sources.encoder
    if name == "embeddings":
        return LayerFeatures(encoder, 0, encoder.embedding_parameters), 0.0
    if name == "frozen":
        return LayerFeatures(encoder, -1, parameters), 0.0
    from bort.baselines.static import StaticFeatures

    rows = int(encoder.encoder.get_input_embeddings().weight.shape[0])
    dimensions = (
        STATIC_DIMENSIONS if name == "static" or sources.largest is None else min(STATIC_DIMENSIONS, sources.largest // rows)
    )
    if dimensions < 1:
        raise BortError(f"one number for each of {rows:,} tokens is more than the student has")
    before = time.process_time()
    features = StaticFeatures(encoder, dimensions, sources.cache / identity[:16] if sources.cache else None)
    spent = time.process_time() - before
    return features, max(0.0, features.vocabulary_seconds - spent)


def single_latency(predict: Callable[[Example], object], examples: Sequence[Example]) -> float | None:
    """Return the median milliseconds from one example's texts to its prediction; ``None`` without examples.

    The examples are spread evenly over the split, so that their lengths are those of real requests. Whatever threads the process
    has are used; compare only what was measured in one run.
    """
    if not examples:
        return None
    chosen = [examples[int(place)] for place in np.linspace(0, len(examples) - 1, _TIMED)]
    for example in chosen[:_WARMUP]:
        predict(example)
    times = []
    for example in chosen:
        started = time.perf_counter()
        predict(example)
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times))
