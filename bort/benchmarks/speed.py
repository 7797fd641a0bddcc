"""The usual distillation loop and this one, taken apart: each variant in a process of its own, in turns, on the same batches.

The usual loop runs the teacher at every step and projects both models to the vocabulary at every position, as DistilBERT's script
does. Each next variant leaves out one thing that need not be done: ``masked`` the projections of positions that are not masked,
``cached`` the teacher, and ``compiled`` what a compiler and narrower numbers can save.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.benchmarks.cost import PAPER_TOKENS
from bort.distillation.config import SpeedConfig
from bort.errors import BortError
from bort.observer import Observer, Quiet
from bort.randomness import seeded_generator
from bort.runtime_config import ImplConfig
from bort.settings import check_settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from bort.teacher.config import TeacherConfig


Times = NDArray[np.float64]


def compare_speed(
    config: SpeedConfig, teacher: TeacherConfig, impl: ImplConfig, *, observer: Observer | None = None
) -> dict[str, Any]:
    """Train the same student in every variant, in turns, and returns what each of them took.

    Args:
        config: Variants, shapes, batches and rounds.
        teacher: The teacher, where ``config`` names no shape for one of random weights.
        impl: Device, threads and precision of all variants; ``compiled`` adds what it is for.
        observer: Notified of progress.

    Returns:
        ``variants`` (by name: ``milliseconds`` and ``processor_milliseconds`` of a step by round, ``teacher_milliseconds`` of them,
        ``losses`` by step, ``peak_memory_bytes``, ``idle_memory_bytes``, ``data_wait``, ``implementation`` …), ``cache`` (what the
        teacher's one pass took, and the size of what it left), ``student``, ``teacher``, ``tokens_per_step``.

    Raises:
        BortError: A process failed; its reason is named.
    """
    check_settings(config, "speed")
    listener = observer or Quiet()
    with tempfile.TemporaryDirectory(prefix="bort-speed-") as folder:
        processes = _Processes()
        order = seeded_generator(config.seed)
        try:
            cache = processes.start("cache", (config, teacher, impl, folder))
            made = cache.ask("run", 0)
            cache.end()
            workers = {name: processes.start(name, (config, teacher, impl, folder)) for name in config.variants}
            answers: dict[str, dict[str, Any]] = {name: {} for name in config.variants}
            for turn in range(config.rounds + 1):
                steps = config.steps if turn else config.warmup
                for name in order.permutation(list(workers)):
                    listener.progress("rounds", turn, config.rounds + 1, str(name))
                    _add(answers[str(name)], workers[str(name)].ask("run", steps), counted=turn > 0)
            listener.progress("rounds", config.rounds + 1, config.rounds + 1)
            facts = {name: worker.ask("facts", 0) for name, worker in workers.items()}
        finally:
            processes.end()
    variants = {name: {**answers[name], **facts[name]} for name in config.variants}
    first = next(iter(variants.values()))
    shared = {key: first[key] for key in ("student", "teacher", "student_parameters", "teacher_parameters", "vocab_size", "device")}
    return {"variants": variants, "cache": made, "tokens_per_step": config.batch_size * config.block_length, **shared}


def speed_rows(found: Mapping[str, Any], ratio: Callable[[Times, Times], Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return the metrics of each variant, and its speed relative to the first one.

    Args:
        found: What :func:`compare_speed` returned.
        ratio: Tells how many times faster a second series of times by round [R] is than a first one, with an interval.

    Returns:
        For each ``variant`` its ``tokens_per_second``; the median ``milliseconds`` and ``processor_milliseconds`` of a step; the
        ratios ``faster``, ``faster_by_processor`` and ``student_step_faster`` (without the teacher's part); peaks of memory and
        ``memory_share``, its share of the first one's; ``mfu``, where the device's peak is known; the last ``loss`` and the largest
        relative ``loss_difference`` from the first one's; ``cache_pays_after_passes``, the passes over the corpus after which the
        teacher's one pass has paid for itself; ``hours_for_paper``, the hours that the paper's tokens take.
    """
    variants = found["variants"]
    first = next(iter(variants.values()))
    return [_row(name, found, first, variants.get("masked", first), ratio) for name in variants]


def _row(
    name: str,
    found: Mapping[str, Any],
    first: Mapping[str, Any],
    online: Mapping[str, Any],
    ratio: Callable[[Times, Times], Mapping[str, float]],
) -> dict[str, Any]:
    mine = found["variants"][name]

    def faster(*parts: str) -> Mapping[str, float]:
        series = [np.array(variant[parts[0]]) - sum(np.array(variant[part]) for part in parts[1:]) for variant in (first, mine)]
        return ratio(*series)

    rate = 1000.0 * found["tokens_per_step"] / float(np.median(mine["milliseconds"]))
    losses, reference = np.array(mine["losses"]), np.array(first["losses"])
    return {
        "variant": name,
        "tokens_per_second": rate,
        "milliseconds": float(np.median(mine["milliseconds"])),
        "processor_milliseconds": float(np.median(mine["processor_milliseconds"])),
        "faster": faster("milliseconds"),
        "faster_by_processor": faster("processor_milliseconds"),
        "student_step_faster": faster("milliseconds", "teacher_milliseconds"),
        "peak_memory_bytes": mine["peak_memory_bytes"],
        "peak_device_memory_bytes": mine["peak_device_memory_bytes"],
        "memory_share": mine["peak_memory_bytes"] / first["peak_memory_bytes"],
        "mfu": mine["flops_per_token"] * rate / mine["peak_flops"] if mine["peak_flops"] else None,
        "loss": float(losses[-1]),
        "loss_difference": float(np.max(np.abs(losses - reference) / np.abs(reference))),
        "cache_pays_after_passes": _pays(found, online, mine) if name in ("cached", "compiled") else None,
        "hours_for_paper": PAPER_TOKENS / rate / 3600.0,
        "implementation": mine["implementation"],
    }


def _pays(found: Mapping[str, Any], online: Mapping[str, Any], mine: Mapping[str, Any]) -> float | None:
    """Return after how many passes over the corpus, of one student or of several, the teacher's one pass has paid for itself."""
    passed: float = 1000.0 * found["cache"]["processor_seconds"] * found["tokens_per_step"] / found["cache"]["tokens"]
    saved = float(np.median(online["processor_milliseconds"]) - np.median(mine["processor_milliseconds"]))
    return passed / saved if saved > 0 else None


def _add(sums: dict[str, Any], answer: Mapping[str, Any], *, counted: bool) -> None:
    """Add a round's answer: losses of all steps; times of the rounds that count, as means over their steps."""
    sums.setdefault("losses", []).extend(answer["losses"])
    for name in ("milliseconds", "processor_milliseconds", "teacher_milliseconds"):
        series = sums.setdefault(name, [])
        if counted:
            series.append(answer[name])


class _Worker:
    """A process, and the connection to it."""

    def __init__(self, process: Any, connection: Connection) -> None:
        self.process, self.connection = process, connection

    def ask(self, what: str, steps: int) -> dict[str, Any]:
        """Send a request and returns the answer."""
        # A process that failed has said why, and no longer listens.
        with suppress(OSError):
            self.connection.send((what, steps))
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next answer; the first one says that all is ready.

        Raises:
            BortError: The process failed.
        """
        try:
            answer: dict[str, Any] = self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            raise BortError(f"A process of the benchmark ended with exit status {self.process.exitcode}.") from error
        if "error" in answer:
            raise BortError(answer["error"])
        return answer

    def end(self) -> None:
        """End the process and waits for it."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


class _Processes:
    """Processes that share the time of importing what all of them need, and nothing else."""

    def __init__(self) -> None:
        import multiprocessing

        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["bort.benchmarks.speed_variants"])
        self._workers: list[_Worker] = []

    def start(self, name: str, arguments: tuple[Any, ...]) -> _Worker:
        """Start the process of a variant and returns when it has all that it needs."""
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, name, *arguments), daemon=True)
        process.start()
        theirs.close()
        return self._ready(_Worker(process, mine))

    def _ready(self, worker: _Worker) -> _Worker:
        self._workers.append(worker)
        worker.answer()
        return worker

    def end(self) -> None:
        """End those that still run."""
        for worker in self._workers:
            worker.end()


def _serve(connection: Connection, *arguments: Any) -> None:
    # Imported here, so that the process that only asks need not load what the others train with.
    from bort.benchmarks.speed_variants import serve

    serve(connection, *arguments)
