"""Agora's loop: train one model for each θ, learn from the best one's mistakes, prune Θ, until Θ is empty."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.finetuning.agora.config import AgoraConfig
from bort.finetuning.agora.generators import drafts_of
from bort.finetuning.agora.labeler import Labeler, class_shares, evened, f1_shares
from bort.finetuning.agora.points import Point, Sieve, label
from bort.finetuning.agora.prune import PRUNERS
from bort.finetuning.agora.state import Iteration
from bort.finetuning.agora.training import Trainer, Training
from bort.finetuning.agora.workspace import AgoraWorkspace
from bort.finetuning.train import DivergenceError
from bort.randomness import named_generator, named_seed
from bort.tasks.task import Example, Task

#: More points than wanted are made by this factor, since some are dropped.
_SURPLUS = 1.5


@dataclass
class AgoraRun:
    """One run of Agora.

    Args:
        workspace: Student, task, Θ, generators and settings.
        labeler: Labels points; ``None`` for plain fine-tuning: no points are made.
        seed: Determines everything that is drawn.
        quota: Points to keep of each iteration, at most, whatever the mistakes; no points at all if it is empty; as the settings
            have it if ``None``.
    """

    workspace: AgoraWorkspace
    labeler: Labeler | None
    seed: int
    quota: list[int] | None = None

    @cached_property
    def config(self) -> AgoraConfig:
        """The settled settings."""
        return self.workspace.agora.plain() if self.labeler is None else self.workspace.agora

    @property
    def task(self) -> Task:
        """The task, without its held-out examples."""
        return self.workspace.blind

    @property
    def trainer(self) -> Trainer:
        """Trains the students."""
        return self.workspace.trainer

    @cached_property
    def shares(self) -> NDArray[np.float64] | None:
        """Divisors that make targets of probabilities, [C]; ``None`` if they are the targets."""
        if self.config.even(self.task):
            return class_shares(self.task)
        return f1_shares(self.labeler, self.task) if self.labeler is not None and self.config.for_f1(self.task) else None

    def targets(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """Return the targets of train and points, [N, C]; a share of those of train are the labeler's."""
        share = float(self.config.distil or 0.0)
        truth = np.eye(len(self.task.labels))[[int(example.label) for example in self.task.train]]
        if share and self.labeler is not None:
            truth = (1 - share) * truth + share * self.labeler.probabilities(self.task.train)
        if (shares := self.shares) is not None:
            truth = evened(truth, shares)
        made = np.array([point.target for point in points]).reshape(len(points), len(self.task.labels))
        return np.concatenate([truth, made])

    def examples(self, points: Sequence[Point]) -> list[Example]:
        """Return train followed by the points; their class index is the likeliest and serves counts alone."""
        made = [Example(f"made:{number}", point.texts, float(np.argmax(point.target))) for number, point in enumerate(points)]
        return [*self.task.train, *made]


@dataclass
class LoopResult:
    """The outcome of one run of Agora.

    Args:
        best: The iteration whose model is returned: the best on steering examples, the first of equals, unless ``agora.latest``.
        ledger: A row for each iteration.
        points: All points that were kept.
    """

    best: Iteration
    ledger: list[dict[str, Any]]
    points: list[Point]


@dataclass
class _Progress:
    """The state between two iterations.

    Args:
        left: Indices of the θ that are left.
        sieve: Remembers the points.
        points: The points so far.
        ledger: The rows so far.
        best: The best iteration so far.
        trained: Trainings so far, which seed the next ones.
        replays: How often the iteration was repeated with the same Θ.
        saved: Optimizer steps that earlier iterations left over.
    """

    left: list[int]
    sieve: Sieve
    points: list[Point] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    best: Iteration | None = None
    trained: int = 0
    replays: int = 0
    saved: int = 0

    @property
    def number(self) -> int:
        """Number of the next iteration."""
        return len(self.ledger)

    def add_points(self, points: Sequence[Point]) -> None:
        """Add points for the trainings from here on."""
        self.sieve.take(points)
        self.points += points

    def add(self, run: AgoraRun, iteration: Iteration, row: dict[str, Any]) -> None:
        """Add a finished iteration."""
        made = iteration.points()
        if made is not None:
            self.add_points(made[0])
        if self.best is None or row["best"]["steering"] > max(earlier["best"]["steering"] for earlier in self.ledger):
            self.best = iteration
        self.ledger.append(row)
        self.trained += len(self.left)
        self.saved += len(self.left) * run.trainer.steps - int(row["cost"]["steps"])
        self.left = [index for index in self.left if index not in row["pruned"]]
        self.replays = self.replays + 1 if self.replays < run.config.replay and not row["pruned"] else 0


def run_loop(run: AgoraRun, directory: Path) -> LoopResult:
    """Run Agora; iterations that an earlier process finished in ``directory`` are read, and the end is the same.

    Args:
        run: What is run.
        directory: Receives a folder for each iteration.

    Raises:
        BortError: Every training of an iteration diverged.
    """
    config, task = run.config, run.task
    sieve = Sieve(task, float(config.similarity or 1.0), float(config.distinct or 0.0))
    progress = _Progress(list(range(len(run.workspace.thetas))), sieve)
    if config.before and run.labeler is not None and run.quota != []:
        progress.add_points(_before(run, sieve, Iteration(directory / "before")))
    while progress.left:
        iteration = Iteration(directory / f"iteration-{progress.number:03}")
        row = iteration.row
        if row is None:
            row = _iterate(run, progress, iteration)
            iteration.keep_row(row)
        progress.add(run, iteration, row)
        _report(run, row)
    best = progress.best
    assert best is not None
    if config.latest:
        best = Iteration(directory / f"iteration-{_latest(progress.ledger, len(task.steering)):03}")
    return LoopResult(best, progress.ledger, progress.points)


def _latest(ledger: Sequence[Mapping[str, Any]], count: int) -> int:
    """Return the number of the latest iteration that is no more than a standard error behind the best steering score.

    The error is that of a share of ``count`` examples, at its largest: 1/(2√count).
    """
    least = max(row["best"]["steering"] for row in ledger) - 0.5 / math.sqrt(count)
    return max(number for number, row in enumerate(ledger) if row["best"]["steering"] >= least)


def _iterate(run: AgoraRun, progress: _Progress, iteration: Iteration) -> dict[str, Any]:
    """Do one iteration, steps 1 to 6 of the loop, and return its row."""
    started = time.process_time()
    left = progress.left
    records = _train_all(run, progress, iteration)
    ascending = sorted(range(len(left)), key=lambda index: (_steering(records[index]), -index))
    pruned = _pruned(run, [left[index] for index in ascending]) if progress.replays == run.config.replay else []
    counts: dict[str, Any] = {"mistakes": 0, "made": 0, "kept": 0, "dropped": {}}
    # Points of the last iteration would be for a training that does not come.
    if len(pruned) < len(left) and run.labeler is not None and run.quota != []:
        counts = _extend(run, progress, iteration)
    winner = records[ascending[-1]]
    return {
        "left": list(left),
        "trainings": [{key: record.get(key) for key in ("theta", "seed", "steering", "steps", "diverged")} for record in records],
        "best": {"theta": winner["theta"], "steering": _steering(winner), "seed": winner["seed"]},
        **counts,
        "points": len(progress.points),
        "pruned": pruned,
        "cost": {
            "steps": sum(int(record["steps"]) for record in records),
            # What an earlier process trained counts as well; what this one did beside training is added.
            "processor_seconds": max(sum(record["processor_seconds"] for record in records), time.process_time() - started),
        },
        "iteration": progress.number,
        "replay": progress.replays,
    }


def _pruned(run: AgoraRun, ascending: Sequence[int]) -> list[int]:
    """Return the θ that leave Θ, of those sorted by steering score."""
    thetas = run.workspace.thetas
    # A value that all θ have in common is no reason to drop one of them.
    varying = [name for name in thetas[0] if any(theta[name] != thetas[0][name] for theta in thetas)]
    sets = [tuple((name, thetas[index][name]) for name in varying) for index in ascending]
    return [ascending[index] for index in PRUNERS[str(run.config.prune)](sets)]


def _train_all(run: AgoraRun, progress: _Progress, iteration: Iteration) -> list[dict[str, Any]]:
    """Train one model for each θ that is left and keep the best one's weights; return their records."""
    workspace, targets, best = None, None, progress.best
    start = best.weights() if run.config.warm_start and best is not None else None
    records: list[dict[str, Any]] = []
    for number, index in enumerate(progress.left):
        record = iteration.training(number)
        if record is None:
            if workspace is None or targets is None:
                workspace, targets = run.trainer.on(run.examples(progress.points)), run.targets(progress.points)
            seed = named_seed(run.seed, "training", progress.trained + number)
            training = Training(workspace, targets, run.workspace.thetas[index], seed, _steps(run, progress), start)
            record, model = _train(run, training, f"{len(progress.left)} sets left, training {number + 1}")
            if any(_steering(record) <= _steering(earlier) for earlier in records):
                model = None
            iteration.keep_training(number, record, model, run.trainer.workspace.tokenizer)
        records.append(record)
    if all("steering" not in record for record in records):
        raise BortError("Training diverged with every θ of finetuning.search that is left; offer smaller learning rates.")
    return records


def _train(run: AgoraRun, training: Training, what: str) -> tuple[dict[str, Any], Any]:
    """Train one model; return its record and the model, ``None`` if it diverged."""
    record = {"theta": dict(training.theta), "seed": training.seed, "steps": training.steps}
    try:
        result = run.trainer.train(training, f"agora {run.task.name}: {what}", run.workspace.observer)
    except DivergenceError as error:
        run.workspace.observer.warn(str(error))
        return {**record, "diverged": True, "processor_seconds": 0.0}, None
    kept = {key: result.record[key] for key in ("steps", "processor_seconds", "best_epoch", "diverged")}
    return {**record, **kept, "steering": result.record["steering"][run.task.primary]}, result.model


def _steps(run: AgoraRun, progress: _Progress) -> int:
    """Return the steps of each training of an iteration: few in the first, where points are few; the next get those saved."""
    if progress.number == 0 and len(progress.left) > 1:
        return max(1, round(run.trainer.steps * float(run.config.early or 1.0)))
    return run.trainer.steps + progress.saved // len(progress.left)


def _before(run: AgoraRun, sieve: Sieve, iteration: Iteration) -> list[Point]:
    """Make the points that are there before the first iteration."""
    done = iteration.points()
    if done is not None:
        return done[0]
    kept, counts = _grow(run, sieve, _random_train(run, "before"), int(run.config.before or 0), "before")
    iteration.keep_points(kept, counts)
    return kept


def _extend(run: AgoraRun, progress: _Progress, iteration: Iteration) -> dict[str, Any]:
    """Make the iteration's new points of the best model's mistakes; return counts."""
    done = iteration.points()
    if done is not None:
        return done[1]
    config, number = run.config, progress.number
    wrong = mistakes(run, iteration.load(), number)
    wanted = min(max(len(wrong) * int(config.per_mistake or 1), int(config.least or 0)), int(config.most or 1))
    if run.quota is not None:
        wanted = run.quota[number] if number < len(run.quota) else 0
    kept, counts = _grow(run, progress.sieve, wrong, wanted, number)
    iteration.keep_points(kept, counts)
    return counts


def mistakes(run: AgoraRun, model: Any, number: int) -> list[Example]:
    """Return a model's mistakes in the splits that ``agora.mistakes`` names, or random train examples."""
    wrong: list[Example] = []
    for split in run.config.mistakes or ():
        if split == "random":
            wrong += _random_train(run, number)
            continue
        examples: Sequence[Example] = getattr(run.task, split)
        found = run.trainer.logits(model, examples).argmax(axis=1)
        wrong += [example for example, guess in zip(examples, found, strict=True) if int(example.label) != int(guess)]
    return wrong


def _random_train(run: AgoraRun, number: object) -> list[Example]:
    """Return the train examples in an order that is a function of seed and number."""
    order: Sequence[int] = named_generator(run.seed, "random", number).permutation(len(run.task.train)).tolist()
    return [run.task.train[index] for index in order]


def _grow(
    run: AgoraRun, sieve: Sieve, sources: Sequence[Example], wanted: int, number: object
) -> tuple[list[Point], dict[str, Any]]:
    """Make, sift and label points.

    Args:
        run: What is run; it has a labeler.
        sieve: Remembers the points so far.
        sources: The examples that points are made of; without any there are no points.
        wanted: Points to keep, at most.
        number: Of the iteration; determines what is drawn, together with the seed.

    Returns:
        The points kept, and the counts for the ledger.
    """
    assert run.labeler is not None
    config = run.config
    counts: dict[str, Any] = {"mistakes": len(sources), "made": 0, "kept": 0, "dropped": {}}
    if not sources or not wanted:
        return [], counts
    seed = named_seed(run.seed, "points", number)
    kept, dropped = sieve.screen(drafts_of(sources, round(wanted * _SURPLUS), run.workspace.generators, seed), wanted)
    probabilities = run.labeler.probabilities([Example("", draft.texts, 0.0) for draft in kept])
    shares = class_shares(run.task)
    if run.shares is not None:
        probabilities = evened(probabilities, run.shares)
    if config.even(run.task):
        shares = np.full_like(shares, 1 / len(shares))
    points, refused = label(
        kept,
        probabilities,
        hard=config.labels == "hard",
        confidence=float(config.confidence or 0.0),
        shares=shares if config.balance else None,
    )
    counts |= {"made": len(kept) + dropped.total(), "kept": len(points), "dropped": dict(sorted((dropped + refused).items()))}
    return points, counts


def _steering(record: Mapping[str, Any]) -> float:
    """Return a training's steering score; below every other if it diverged."""
    return float(record.get("steering", -np.inf))


def _report(run: AgoraRun, row: Mapping[str, Any]) -> None:
    metrics = {
        "steering": row["best"]["steering"],
        "sets_left": len(row["left"]),
        "points": row["points"],
        "points_kept": row["kept"],
    }
    run.workspace.observer.metrics({f"agora.{name}": float(value) for name, value in metrics.items()}, row["iteration"])
