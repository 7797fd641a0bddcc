"""Agora against plain fine-tuning, distillation and random augmentation, at the same number of optimizer steps."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bort.files import digest, read_json, write_json
from bort.finetuning.agora.config import ARMS, PRESETS, AgoraBenchmarkConfig, AgoraConfig, check_agora
from bort.finetuning.agora.encoder import Encoder
from bort.finetuning.agora.labeler import Labeler, refusal
from bort.finetuning.agora.loop import AgoraRun, run_loop
from bort.finetuning.agora.retrieval import Pool
from bort.finetuning.agora.runs import score_iteration
from bort.finetuning.agora.setup import AgoraSetup
from bort.finetuning.agora.training import Trainer, Training
from bort.finetuning.agora.workspace import AgoraWorkspace
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.setup import FinetuningSetup, model_digest
from bort.finetuning.train import TrainingResult
from bort.finetuning.workspace import Workspace
from bort.locks import exclusive
from bort.observer import Observer, Quiet
from bort.randomness import named_seed
from bort.runtime_config import ImplConfig
from bort.settings import check_settings
from bort.tasks.config import TaskConfig
from bort.tasks.intervals import seed_interval
from bort.tasks.load import load_task
from bort.tasks.metrics import majority_baseline
from bort.tasks.task import Task

#: The goal: this many points ahead on the mean of all settings, and nowhere more than so many behind.
AHEAD, BEHIND = 3.0, 0.5

#: Scores lie in [0, 1] (a correlation in [−1, 1]); a point is a hundredth.
_POINTS = 100.0


def compare(cells: Sequence[Mapping[str, Any]], arms: Sequence[str], confidence: float) -> dict[str, Any]:
    """Compare arms by the task's first metric.

    Differences are taken between arms on the same draw with the same seed, so that what a draw has easy or hard cancels out.

    Args:
        cells: Records of cells, all arms of each unit.
        arms: The arms.
        confidence: Of Student's t-intervals over seeds.

    Returns:
        ``settings``: for each task and size the ``scores`` of each arm and the ``differences`` from plain fine-tuning, in points.
        ``overall``: for each arm the difference of the mean over all settings, by seed. ``cost``: mean steps and processor-seconds
        of each arm. ``verdict`` on Agora (with both ``plain`` and ``agora`` among the arms).
    """
    found = {(cell["task"], cell["size"], cell["seed"], cell["arm"]): cell for cell in cells}
    seeds = sorted({cell["seed"] for cell in cells})
    settings = []
    for task, size in dict.fromkeys((cell["task"], cell["size"]) for cell in cells):
        series = {arm: [_value(found[task, size, seed, arm]) for seed in seeds] for arm in arms}
        one = found[task, size, seeds[0], arms[0]]
        settings.append(
            {
                "task": task,
                "size": size,
                "metric": one["metric"],
                "majority": _POINTS * one["majority"][one["metric"]],
                "scores": {arm: seed_interval(values, confidence) for arm, values in series.items()},
                "differences": {
                    arm: _paired(series[arm], series["plain"], confidence) for arm in arms if arm != "plain" and "plain" in arms
                },
                "refused": sum(bool(found[task, size, seed, arms[0]]["refused"]) for seed in seeds),
                "labeller": float(np.mean([_accuracy(found[task, size, seed, arms[0]]) for seed in seeds])),
            }
        )
    overall = {}
    for arm in arms:
        if arm != "plain" and "plain" in arms:
            by_seed = np.mean([setting["differences"][arm]["values"] for setting in settings], axis=0)
            overall[arm] = seed_interval(by_seed.tolist(), confidence)
    cost = {
        arm: {
            name: float(np.mean([cell[name] for cell in cells if cell["arm"] == arm]))
            for name in ("steps", "processor_seconds", "points")
        }
        for arm in arms
    }
    result = {"settings": settings, "overall": overall, "cost": cost, "seeds": seeds}
    return result | ({"verdict": _verdict(settings, overall["agora"])} if "agora" in overall else {})


def _value(cell: Mapping[str, Any]) -> float:
    return _POINTS * float(cell["heldout"][cell["metric"]])


def _accuracy(cell: Mapping[str, Any]) -> float:
    return float(cell["labeller"]["steering"]["accuracy"]) if cell["labeller"] else float("nan")


def _paired(one: Sequence[float], other: Sequence[float], confidence: float) -> dict[str, Any]:
    return seed_interval([a - b for a, b in zip(one, other, strict=True)], confidence)


def _verdict(settings: Sequence[Mapping[str, Any]], overall: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether Agora is ahead of plain fine-tuning by the goal."""
    worst = min(settings, key=lambda setting: float(setting["differences"]["agora"]["mean"]))
    behind = float(worst["differences"]["agora"]["mean"])
    excludes = overall["low"] is not None and overall["low"] > 0
    return {
        "mean": overall["mean"],
        "low": overall["low"],
        "high": overall["high"],
        "excludes_zero": excludes,
        "worst": {"task": worst["task"], "size": worst["size"], "difference": behind},
        "met": bool(overall["mean"] >= AHEAD and excludes and behind >= -BEHIND),
    }


#: Raised with every change of generators, labelers or the loop that changes cells: older cells do not count then.
_METHOD = 3


@dataclass(frozen=True)
class Unit:
    """One draw of examples of one task: what every arm is run on.

    Args:
        name: The task's name in the benchmark.
        size: Train examples.
        seed: Of the draw and of everything trained on it.
        task: The task's configuration with size and seed in place.
    """

    name: str
    size: int
    seed: int
    task: TaskConfig

    @property
    def folder(self) -> str:
        """Name of its folder, which no other task of that name shares."""
        return f"{self.name.replace('/', '-')}-{self.size}-{self.seed}-{digest(repr(self.task))[:8]}"


class RememberingTrainer(Trainer):
    """A trainer that does not repeat a training: arms that begin alike share their first models.

    A record keeps the cost of the training it stands for, so that sharing makes no arm look cheaper.
    """

    def __init__(self, workspace: Workspace, config: FinetuningConfig, *, steps: int, judgements: int) -> None:
        super().__init__(workspace, config, steps=steps, judgements=judgements)
        self._results: dict[str, TrainingResult] = {}

    def train(self, training: Training, label: str, observer: Observer | None = None) -> TrainingResult:
        """Train, or return the result of an equal training."""
        if training.start is not None:
            return super().train(training, label, observer)
        texts = [example.texts for example in training.workspace.task.train]
        key = digest([texts, training.targets.round(9).tolist(), dict(training.theta), training.seed, training.steps])
        if key not in self._results:
            self._results[key] = super().train(training, label, observer)
        return self._results[key]


@dataclass(frozen=True)
class AgoraBenchmarkSetup:
    """Everything that the benchmark compares arms on.

    Args:
        model_dir: The student.
        tasks: By their names in the benchmark.
        config: Sizes, seeds, arms.
        finetuning: Defaults of θ, and Θ as lists of choices.
        agora: Settings of Agora; ``agora.labeller.encoder`` is needed.
        sentences: Of a corpus, for the generator ``retrieve``.
        impl: Device, precision and threads: no part of the identity.
    """

    model_dir: str | Path
    tasks: Mapping[str, TaskConfig]
    config: AgoraBenchmarkConfig
    finetuning: FinetuningConfig
    agora: AgoraConfig
    sentences: Sequence[str] = ()
    impl: ImplConfig = field(default_factory=ImplConfig)

    def check(self) -> None:
        """Check every setting without reading a task.

        Raises:
            ConfigurationError: A value is invalid.
        """
        check_settings(self.config, "agora_benchmark")
        check_settings(self.agora, "agora")
        check_settings(self.impl, "impl")

    def identity(self) -> dict[str, Any]:
        """Return what determines a cell; other tasks, sizes, seeds and arms only add cells."""
        finetuning = self.finetuning
        return {
            "method": _METHOD,
            "student": model_digest(self.model_dir),
            "steps": {str(size): steps for size, steps in self.config.steps.items()},
            "finetuning": finetuning.theta()
            | {"search": finetuning.search, "pooling": finetuning.pooling, "clip": finetuning.clip},
            "agora": asdict(self.agora),
            "sentences": digest(list(self.sentences)),
            "presets": {name: dict(preset) for name, preset in PRESETS.items()},
        }

    def units(self) -> list[Unit]:
        """Return one unit for each seed, size and task."""
        config = self.config
        return [
            Unit(name, size, seed, _drawn(self.tasks[name], config, size, seed))
            for seed in config.seeds
            for size in config.sizes
            for name in self.tasks
        ]

    def on(self, unit: Unit, task: Task) -> AgoraSetup:
        """Return the setup of Agora on a unit, checked."""
        agora = replace(self.agora, steps=self.config.steps_of(unit.size, self.agora.steps))
        check_agora(task, agora, self.finetuning)
        return AgoraSetup(FinetuningSetup(self.model_dir, task, self.finetuning, impl=self.impl), agora, self.sentences)


def run_benchmark(setup: AgoraBenchmarkSetup, directory: str | Path, observer: Observer | None = None) -> dict[str, Any]:
    """Run every arm on every unit and compare them.

    A finished cell is never repeated; several processes may work in the same directory, each on units of its own.

    Args:
        setup: Student, tasks, arms and settings.
        directory: Receives a folder for these settings, and in it ``cells/``.
        observer: Receives progress and the cost of each cell.

    Returns:
        ``cells``, and the comparison of :func:`bort.benchmarks.agora.compare`.
    """
    setup.check()
    observer, config, units = observer or Quiet(), setup.config, setup.units()
    identity = setup.identity()
    home = Path(directory) / digest(identity)[:16]
    if not (home / "benchmark.json").exists():
        write_json(home / "benchmark.json", identity)
    worker = _Worker(setup, home, observer)
    # Units that another process holds come last: it may have died.
    for wait in (False, True):
        for number, unit in enumerate(units):
            observer.progress("agora benchmark", number, len(units), unit.folder)
            with exclusive(home / "cells" / unit.folder, wait=wait) as held:
                if held:
                    worker.run(unit)
    cells = [read_json(home / "cells" / unit.folder / f"{arm}.json") for unit in units for arm in config.arms]
    return {"cells": cells, "directory": str(home), **compare(cells, config.arms, config.confidence)}


def _drawn(task: TaskConfig, config: AgoraBenchmarkConfig, size: int, seed: int) -> TaskConfig:
    """Return the task with so many train examples, no more steering examples, and another draw of both for each seed."""
    return replace(task, train_examples=size, steering=min(size, config.steering), seed=seed)


class _Worker:
    """Run units; the labeler's encoder is loaded once for each length of text.

    Args:
        setup: Student, tasks, arms and settings.
        home: Folder of the cells.
        observer: Receives progress and the cost of each cell.
    """

    def __init__(self, setup: AgoraBenchmarkSetup, home: Path, observer: Observer) -> None:
        self._setup, self._home, self._observer = setup, home, observer
        self._encoders: dict[int, Encoder] = {}
        self._pools: dict[int, Pool] = {}

    def run(self, unit: Unit) -> None:
        """Run the arms of a unit that have not been run."""
        folder = self._home / "cells" / unit.folder
        arms = [arm for arm in ARMS if arm in self._setup.config.arms]
        if all((folder / f"{arm}.json").exists() for arm in arms):
            return
        bench = Bench(unit, self._workspace(unit), folder)
        for arm in arms:
            path = folder / f"{arm}.json"
            if not path.exists():
                cell = bench.cell(arm)
                write_json(path, cell)
                shutil.rmtree(folder / arm, ignore_errors=True)
                shown = f"{cell['metric']} {cell['heldout'][cell['metric']]:.4f}"
                self._observer.warn(
                    f"{unit.folder} {arm}: {shown}, {cell['steps']} steps, {cell['processor_seconds']:.1f} processor-seconds"
                )

    def _workspace(self, unit: Unit) -> AgoraWorkspace:
        task = load_task(unit.task)
        setup, length = self._setup.on(unit, task), task.max_length
        if length not in self._encoders:
            self._encoders[length] = Encoder(str(setup.agora.labeller.encoder), length)
        encoder = self._encoders[length]
        if setup.sentences and length not in self._pools and setup.retrieves():
            self._pools[length] = Pool(setup.sentences, encoder, self._observer)
        return AgoraWorkspace(setup, encoder=encoder, pool=self._pools.get(length), trainer=RememberingTrainer)


class Bench:
    """The arms on one unit. All go through the same loop, and so train as many models from the same first values.

    ``plain`` has no labeler, ``distill`` the labeler's targets for train and no points, ``random`` as many points as Agora, made
    of random train examples by the same generators and labelled alike. Where the labeler is refused, Agora is ``plain``.

    Args:
        unit: The unit.
        workspace: Of the unit; its held-out examples are read when an arm has made all its choices.
        folder: Receives the state of the loop while it runs.
    """

    def __init__(self, unit: Unit, workspace: AgoraWorkspace, folder: Path) -> None:
        self._unit, self._workspace, self._folder = unit, workspace, folder
        self._task, self._agora = workspace.task, workspace.setup.agora
        self._seed = named_seed(unit.seed, "benchmark", unit.name, unit.size)

    def cell(self, arm: str) -> dict[str, Any]:
        """Run one arm and return its record."""
        record = self._labeler[1]
        started = time.process_time()
        result = run_loop(self._run(arm), self._folder / arm)
        scores, _ = score_iteration(self._workspace.trainer, self._task, result.best)
        trainings = [training for row in result.ledger for training in row["trainings"]]
        best = max(result.ledger, key=lambda row: float(row["best"]["steering"]))
        trained = sum(row["cost"]["processor_seconds"] for row in result.ledger)
        return {
            "task": self._unit.name,
            "size": self._unit.size,
            "seed": self._unit.seed,
            "arm": arm,
            "metric": self._task.primary,
            "heldout": scores,
            "majority": majority_baseline(self._task)["metrics"],
            "examples": {split: len(getattr(self._task, split)) for split in ("train", "steering", "heldout")},
            "data": self._task.digest,
            "labeller": record,
            "refused": self._refused(arm),
            "theta": best["best"]["theta"],
            "steering": best["best"]["steering"],
            "trainings": len(trainings),
            "steps": sum(int(training["steps"]) for training in trainings),
            "points": len(result.points),
            "ledger": result.ledger,
            # Trainings that arms share are counted for each; the labeler's cost falls to each arm that has one.
            "processor_seconds": max(time.process_time() - started, trained)
            + (record["processor_seconds"] if arm != "plain" else 0.0),
        }

    @cached_property
    def _labeler(self) -> tuple[Labeler, dict[str, Any]]:
        """The labeler, which all arms share, and its record."""
        return self._workspace.labeler(self._folder / "labeller", self._seed)

    def _refused(self, arm: str) -> str:
        """Return the reason to refuse an arm's labeler; the arms that Agora is compared with take any."""
        if arm not in ("agora", "paper"):
            return ""
        scores, even = self._labeler[1]["steering"], arm == "agora" and self._workspace.agora.even(self._task)
        return refusal(self._agora.labeller, scores, len(self._task.steering), even=even)

    def _run(self, arm: str) -> AgoraRun:
        """Return an arm's run of the loop."""
        workspace = self._workspace
        quota: list[int] | None = None
        if arm == "paper":
            workspace = workspace.variant(self._agora.as_variant("paper"))
        elif arm == "random":
            workspace = workspace.variant(replace(workspace.agora, mistakes=["random"]))
        if arm == "distill":
            quota = []
        elif arm == "random" and (self._folder / "agora.json").exists():
            kept = [row["kept"] for row in read_json(self._folder / "agora.json")["ledger"]]
            # If Agora made none because its labeler was refused, its settings determine how many there would have been.
            quota = kept if any(kept) else None
        without = arm == "plain" or bool(self._refused(arm))
        return AgoraRun(workspace, None if without else self._labeler[0], self._seed, quota)
