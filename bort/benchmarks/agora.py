"""What Agora is worth: it, plain fine-tuning, distillation and random augmentation, at the same number of optimiser steps."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bort.files import digest, read_json, write_json
from bort.finetuning.agora.config import ARMS, PRESETS, AgoraBenchmarkConfig, AgoraConfig, check_agora
from bort.finetuning.agora.encoder import Encoder
from bort.finetuning.agora.labeller import Labeller, refusal
from bort.finetuning.agora.loop import Parts, run_loop
from bort.finetuning.agora.retrieval import Pool
from bort.finetuning.agora.runs import Setting, retrieves, score_iteration
from bort.finetuning.agora.training import Trainer
from bort.finetuning.config import FinetuningConfig, Impl
from bort.finetuning.train import Trained, model_digest
from bort.finetuning.workspace import Workspace
from bort.locks import exclusive
from bort.observer import Observer, Quiet
from bort.randomness import named_seed
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
    """Compares arms by the task's first metric.

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
    """Says whether Agora is as far ahead of plain fine-tuning as was aimed at."""
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


#: Raised whenever generators, labellers or the loop give other cells from the same settings: kept cells of before do not count.
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
    """A trainer that does not train the same model twice: arms that begin alike share what they begin with.

    A record keeps the cost of the training it stands for, so that sharing makes no arm look cheaper.
    """

    def __init__(self, workspace: Workspace, config: FinetuningConfig, *, steps: int, judgements: int) -> None:
        super().__init__(workspace, config, steps=steps, judgements=judgements)
        self._known: dict[str, Trained] = {}

    def train(
        self,
        workspace: Workspace,
        targets: NDArray[np.float64],
        theta: Mapping[str, Any],
        *,
        seed: int,
        label: str,
        steps: int | None = None,
        start: Mapping[str, Tensor] | None = None,
        observer: Observer | None = None,
    ) -> Trained:
        """Trains, or returns what the same examples, targets, θ and seed gave before."""
        texts = [example.texts for example in workspace.task.train]
        key = digest([texts, targets.round(9).tolist(), dict(theta), seed, steps or self.steps]) if start is None else None
        if key is not None and key in self._known:
            return self._known[key]
        trained = super().train(workspace, targets, theta, seed=seed, label=label, steps=steps, start=start, observer=observer)
        if key is not None:
            self._known[key] = trained
        return trained


def run_benchmark(
    model_dir: str | Path,
    tasks: Mapping[str, TaskConfig],
    config: AgoraBenchmarkConfig,
    finetuning: FinetuningConfig,
    agora: AgoraConfig,
    *,
    directory: str | Path,
    impl: Impl | None = None,
    observer: Observer | None = None,
    sentences: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs every arm on every unit and compares them.

    A cell that is done is never run again; several processes may work in the same directory, each on units of its own.

    Args:
        model_dir: The student.
        tasks: By their names in the benchmark.
        config: Sizes, seeds, arms.
        finetuning: Defaults of θ, and Θ as lists of choices.
        agora: Settings of Agora; ``agora.labeller.encoder`` is needed.
        directory: Gets a folder for these settings, and in it ``cells/``.
        impl: Device, precision, threads.
        observer: Told of progress and of each cell's cost.
        sentences: Of a corpus, for the generator ``retrieve``.

    Returns:
        ``cells``, and what :func:`bort.benchmarks.agora.compare` makes of them.
    """
    check_settings(config, "agora_benchmark")
    check_settings(agora, "agora")
    observer, home = observer or Quiet(), _home(Path(directory), model_dir, config, finetuning, agora, sentences)
    units = [
        Unit(name, size, seed, _drawn(tasks[name], config, size, seed))
        for seed in config.seeds
        for size in config.sizes
        for name in tasks
    ]
    worker = _Worker(model_dir, config, finetuning, agora, home, impl, observer, sentences)
    # Those that another process holds come last: it may have died.
    for wait in (False, True):
        for number, unit in enumerate(units):
            observer.progress("agora benchmark", number, len(units), unit.folder)
            with exclusive(home / "cells" / unit.folder, wait=wait) as held:
                if held:
                    worker.run(unit)
    cells = [read_json(home / "cells" / unit.folder / f"{arm}.json") for unit in units for arm in config.arms]
    return {"cells": cells, "directory": str(home), **compare(cells, config.arms, config.confidence)}


def _drawn(task: TaskConfig, config: AgoraBenchmarkConfig, size: int, seed: int) -> TaskConfig:
    """Returns the task with so many train examples, no more steering examples, and another draw of both for each seed."""
    return replace(task, train_examples=size, steering=min(size, config.steering), seed=seed)


def _home(
    directory: Path,
    model_dir: str | Path,
    config: AgoraBenchmarkConfig,
    finetuning: FinetuningConfig,
    agora: AgoraConfig,
    sentences: Sequence[str],
) -> Path:
    """Returns the folder of the cells that were made with these settings; other tasks, sizes, seeds and arms only add cells."""
    made_from = {
        "method": _METHOD,
        "student": model_digest(model_dir),
        "steps": {str(size): steps for size, steps in config.steps.items()},
        "finetuning": finetuning.theta() | {"search": finetuning.search, "pooling": finetuning.pooling, "clip": finetuning.clip},
        "agora": asdict(agora),
        "sentences": digest(list(sentences)),
        "presets": {name: dict(preset) for name, preset in PRESETS.items()},
    }
    home = directory / digest(made_from)[:16]
    if not (home / "benchmark.json").exists():
        write_json(home / "benchmark.json", made_from)
    return home


class _Worker:
    """Runs units; the encoder of labeller and generators is loaded once for each length of text."""

    def __init__(
        self,
        model_dir: str | Path,
        config: AgoraBenchmarkConfig,
        finetuning: FinetuningConfig,
        agora: AgoraConfig,
        home: Path,
        impl: Impl | None,
        observer: Observer,
        sentences: Sequence[str],
    ) -> None:
        self._model_dir, self._config, self._finetuning, self._agora = model_dir, config, finetuning, agora
        self._home, self._impl, self._observer = home, impl, observer
        self._encoders: dict[int, Encoder] = {}
        self._sentences, self._pools = sentences, dict[int, Pool]()

    def run(self, unit: Unit) -> None:
        """Runs the arms of a unit that have not been run."""
        folder = self._home / "cells" / unit.folder
        arms = [arm for arm in ARMS if arm in self._config.arms]
        if all((folder / f"{arm}.json").exists() for arm in arms):
            return
        task = load_task(unit.task)
        bench = Bench(task, unit, self._setting(unit, task), folder, self._agora)
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

    def _setting(self, unit: Unit, task: Task) -> Setting:
        length = task.max_length
        if length not in self._encoders:
            self._encoders[length] = Encoder(str(self._agora.labeller.encoder), length)
        if self._sentences and length not in self._pools and retrieves(self._agora, task):
            self._pools[length] = Pool(self._sentences, self._encoders[length], self._observer)
        agora = replace(self._agora, steps=self._config.steps_of(unit.size, self._agora.steps))
        check_agora(task, agora, self._finetuning)
        return Setting(
            self._model_dir,
            task,
            self._finetuning,
            agora,
            impl=self._impl,
            encoder=self._encoders[length],
            pool=self._pools.get(length),
            trainer=RememberingTrainer,
        )


class Bench:
    """The arms on one unit. All go through the same loop, and so train as many models from the same first values.

    ``plain`` has no labeller, ``distill`` the labeller's targets for train and no points, ``random`` as many points as Agora, made
    of random train examples by the same generators and labelled alike. Where the labeller is refused, Agora is ``plain``.

    Args:
        task: With its held-out examples, which are read when an arm has made all its choices.
        unit: Which unit.
        setting: Student, encoder, generators.
        folder: For what the loop keeps while it runs.
        agora: Settings of Agora as they were given.
    """

    def __init__(self, task: Task, unit: Unit, setting: Setting, folder: Path, agora: AgoraConfig) -> None:
        self._task, self._unit, self._setting, self._folder, self._agora = task, unit, setting, folder, agora
        self._seed = named_seed(unit.seed, "benchmark", unit.name, unit.size)
        self._labeller: tuple[Labeller, dict[str, Any]] | None = None

    def cell(self, arm: str) -> dict[str, Any]:
        """Runs one arm and returns its record."""
        record = self._label()[1]
        started = time.process_time()
        found = run_loop(self._parts(arm), self._folder / arm)
        scores, _ = score_iteration(self._setting.trainer, self._task, found.best)
        trainings = [training for row in found.ledger for training in row["trainings"]]
        best = max(found.ledger, key=lambda row: float(row["best"]["steering"]))
        trained = sum(row["cost"]["processor_seconds"] for row in found.ledger)
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
            "points": len(found.points),
            "ledger": found.ledger,
            # Trainings that arms share are counted for each; the labeller's cost falls to each arm that has one.
            "processor_seconds": max(time.process_time() - started, trained)
            + (record["processor_seconds"] if arm != "plain" else 0.0),
        }

    def _refused(self, arm: str) -> str:
        """Returns why an arm's labeller is refused; the arms that Agora is compared with take any."""
        if arm not in ("agora", "paper"):
            return ""
        scores, even = self._label()[1]["steering"], arm == "agora" and self._setting.agora.even(self._task)
        return refusal(self._agora.labeller, scores, len(self._task.steering), even=even)

    def _label(self) -> tuple[Labeller, dict[str, Any]]:
        if self._labeller is None:
            self._labeller = self._setting.labeller(self._folder / "labeller", self._seed)
        return self._labeller

    def _parts(self, arm: str) -> Parts:
        """Returns what an arm's loop works with."""
        labeller = self._label()[0]
        if arm == "paper":
            setting = self._setting.variant(self._agora.as_variant("paper"))
        elif arm == "random":
            setting = self._setting.variant(replace(self._setting.agora, mistakes=["random"]))
        else:
            setting = self._setting
        without = arm == "plain" or bool(self._refused(arm))
        parts = setting.parts(None if without else labeller, self._seed)
        if arm == "distill":
            parts.quota = ()
        elif arm == "random" and (self._folder / "agora.json").exists():
            ledger = read_json(self._folder / "agora.json")["ledger"]
            # Where Agora made none because its labeller was refused, its settings say how many there would have been.
            parts.quota = [row["kept"] for row in ledger] if any(row["kept"] for row in ledger) else None
        return parts
