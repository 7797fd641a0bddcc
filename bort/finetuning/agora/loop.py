"""Agora's loop: train one model for each θ, learn from the best one's mistakes, prune Θ, until Θ is empty."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.finetuning.agora.config import AgoraConfig
from bort.finetuning.agora.generators import Generator, drafts_of
from bort.finetuning.agora.labeller import Labeller, class_shares, evened, f1_shares
from bort.finetuning.agora.points import Point, Sieve, label
from bort.finetuning.agora.prune import PRUNERS
from bort.finetuning.agora.state import Iteration
from bort.finetuning.agora.training import Trainer
from bort.finetuning.train import Diverged
from bort.observer import Observer
from bort.randomness import named_generator, named_seed
from bort.tasks.task import Example, Task

#: How many points more than are wanted are made, since some are dropped.
_SURPLUS = 1.5


@dataclass
class Parts:
    """What a run of Agora works with.

    Args:
        trainer: Trains models.
        task: The task; its held-out examples are not read.
        thetas: Θ, in order.
        generators: Make points.
        labeller: Labels them; ``None`` where it was refused, so that no points are made.
        config: With the variant's values in place.
        seed: Decides everything that is drawn.
        observer: Told of progress and of the ledger.
        quota: Points to keep of each iteration, at most, whatever the mistakes; none, nor any before the first iteration, where it
            is empty. As the settings have it where absent.
    """

    trainer: Trainer
    task: Task
    thetas: Sequence[Mapping[str, Any]]
    generators: Sequence[Generator]
    labeller: Labeller | None
    config: AgoraConfig
    seed: int
    observer: Observer
    quota: Sequence[int] | None = None

    @cached_property
    def shares(self) -> NDArray[np.float64] | None:
        """What probabilities are divided by to become targets, [C]; ``None`` where they are taken as they are."""
        if self.config.even(self.task):
            return class_shares(self.task)
        return f1_shares(self.labeller, self.task) if self.labeller is not None and self.config.for_f1(self.task) else None

    def targets(self, points: Sequence[Point], share: float) -> NDArray[np.float64]:
        """Returns the targets of train and points, [N, C]; ``share`` of those of train are the labeller's."""
        truth = np.eye(len(self.task.labels))[[int(example.label) for example in self.task.train]]
        if share and self.labeller is not None:
            truth = (1 - share) * truth + share * self.labeller.probabilities(self.task.train)
        if (shares := self.shares) is not None:
            truth = evened(truth, shares)
        made = np.array([point.target for point in points]).reshape(len(points), len(self.task.labels))
        return np.concatenate([truth, made])

    def examples(self, points: Sequence[Point]) -> list[Example]:
        """Returns train with the points behind it; their class index is the likeliest, for counts alone."""
        made = [Example(f"made:{number}", point.texts, float(np.argmax(point.target))) for number, point in enumerate(points)]
        return [*self.task.train, *made]


@dataclass
class Found:
    """What a run of Agora ends with.

    Args:
        best: The iteration whose model is returned: the best on steering examples, the first of equals, unless ``agora.latest``.
        ledger: A row for each iteration.
        points: All points that were kept.
    """

    best: Iteration
    ledger: list[dict[str, Any]]
    points: list[Point]


def run_loop(parts: Parts, directory: Path) -> Found:
    """Runs Agora; what an earlier process did in ``directory`` is not done again, and the end is the same.

    Args:
        parts: What it works with.
        directory: Gets a folder for each iteration.

    Raises:
        BortError: Every training of an iteration diverged.
    """
    config, task = parts.config, parts.task
    sieve = Sieve(task, float(config.similarity or 1.0), float(config.distinct or 0.0))
    points: list[Point] = []
    ledger: list[dict[str, Any]] = []
    best: Iteration | None = None
    if config.before and parts.labeller is not None and parts.quota != ():
        points += _before(parts, Iteration(directory / "before"), sieve)
    left = list(range(len(parts.thetas)))
    number = trained = replays = saved = 0
    while left:
        iteration = Iteration(directory / f"iteration-{number:03}")
        row = iteration.row
        if row is None:
            last = replays == config.replay
            steps = _steps(parts, len(left), number, saved)
            row = _iterate(parts, iteration, sieve, points, left, best, number=number, first=trained, last_replay=last, steps=steps)
            row |= {"iteration": number, "replay": replays}
            iteration.keep_row(row)
        made = iteration.points()
        if made is not None:
            sieve.take(made[0])
            points += made[0]
        ledger.append(row)
        _tell(parts, row, number)
        if best is None or row["best"]["steering"] > max(earlier["best"]["steering"] for earlier in ledger[:-1]):
            best = iteration
        trained += len(left)
        saved += len(left) * parts.trainer.steps - int(row["cost"]["steps"])
        left = [index for index in left if index not in row["pruned"]]
        replays = replays + 1 if replays < config.replay and not row["pruned"] else 0
        number += 1
    assert best is not None
    if config.latest:
        best = Iteration(directory / f"iteration-{_latest(ledger, len(task.steering)):03}")
    return Found(best, ledger, points)


def _steps(parts: Parts, left: int, number: int, saved: int) -> int:
    """Returns the steps of each training of an iteration: few in the first, where points are few; what that saves in the next."""
    if number == 0 and left > 1:
        return max(1, round(parts.trainer.steps * float(parts.config.early or 1.0)))
    return parts.trainer.steps + saved // left


def _latest(ledger: Sequence[Mapping[str, Any]], count: int) -> int:
    """Returns the number of the latest iteration that is no more than a standard error behind the best steering score.

    The error is that of a share of ``count`` examples, at its largest: 1/(2√count).
    """
    least = max(row["best"]["steering"] for row in ledger) - 0.5 / math.sqrt(count)
    return max(number for number, row in enumerate(ledger) if row["best"]["steering"] >= least)


def _iterate(
    parts: Parts,
    iteration: Iteration,
    sieve: Sieve,
    points: Sequence[Point],
    left: Sequence[int],
    best: Iteration | None,
    *,
    number: int,
    first: int,
    last_replay: bool,
    steps: int,
) -> dict[str, Any]:
    """Does one iteration and returns its row: steps 1 to 6 of the loop.

    Args:
        parts: What it works with.
        iteration: Its folder.
        sieve: Knows the points so far.
        points: The points so far.
        left: Indices of the θ that are left.
        best: The best iteration so far.
        number: Its number.
        first: Trainings before it, which seed its own.
        last_replay: Whether Θ is pruned at its end.
        steps: Of each training.
    """
    started = time.process_time()
    config = parts.config
    records = _train_all(parts, iteration, points, left, best, first, steps)
    ordered = sorted(range(len(left)), key=lambda place: (_steering(records[place]), -place))
    pruned = []
    if last_replay:
        # A value that all sets of Θ have is nothing that one of them could be dropped for.
        varying = [name for name in parts.thetas[0] if any(theta[name] != parts.thetas[0][name] for theta in parts.thetas)]
        sets = [tuple((name, parts.thetas[left[place]][name]) for name in varying) for place in ordered]
        pruned = [left[ordered[place]] for place in PRUNERS[str(config.prune)](sets)]
    counts: dict[str, Any] = {"mistakes": 0, "made": 0, "kept": 0, "dropped": {}}
    # Points of the last iteration would be for a training that does not come.
    if len(pruned) < len(left) and parts.labeller is not None and parts.quota != ():
        counts = _extend(parts, iteration, sieve, number)
    winner = records[ordered[-1]]
    trained = [record["processor_seconds"] for record in records]
    return {
        "left": list(left),
        "trainings": [{key: record.get(key) for key in ("theta", "seed", "steering", "steps", "diverged")} for record in records],
        "best": {"theta": winner["theta"], "steering": _steering(winner), "seed": winner["seed"]},
        **counts,
        "points": len(points),
        "pruned": pruned,
        "cost": {
            "steps": sum(int(record["steps"]) for record in records),
            # What an earlier process trained counts as well, what this one did beside training is added.
            "processor_seconds": max(sum(trained), time.process_time() - started),
        },
    }


def _train_all(
    parts: Parts,
    iteration: Iteration,
    points: Sequence[Point],
    left: Sequence[int],
    best: Iteration | None,
    first: int,
    steps: int,
) -> list[dict[str, Any]]:
    """Trains one model for each θ that is left and keeps the best one's weights; returns their records."""
    config, workspace, targets = parts.config, None, None
    start = best.weights() if config.warm_start and best is not None else None
    records: list[dict[str, Any]] = []
    for place, index in enumerate(left):
        record = iteration.training(place)
        if record is None:
            if workspace is None:
                workspace = parts.trainer.on(parts.examples(points))
                targets = parts.targets(points, float(config.distil or 0.0))
            assert targets is not None
            seed = named_seed(parts.seed, "training", first + place)
            record, model = {"theta": dict(parts.thetas[index]), "seed": seed, "steps": steps, "diverged": True}, None
            record |= {"processor_seconds": 0.0}
            try:
                label_ = f"agora {parts.task.name}: {len(left)} sets left, training {place + 1}"
                trained = parts.trainer.train(
                    workspace,
                    targets,
                    parts.thetas[index],
                    seed=seed,
                    label=label_,
                    steps=steps,
                    start=start,
                    observer=parts.observer,
                )
            except Diverged as error:
                parts.observer.warn(str(error))
            else:
                kept = ("steps", "processor_seconds", "best_epoch", "diverged")
                record |= {key: trained.record[key] for key in kept}
                record["steering"] = trained.record["steering"][parts.task.primary]
                if all(_steering(record) > _steering(earlier) for earlier in records):
                    model = trained.model
            iteration.keep_training(place, record, model, parts.trainer.workspace.tokenizer)
        records.append(record)
    if all("steering" not in record for record in records):
        raise BortError("Training diverged with every θ of finetuning.search that is left; offer smaller learning rates.")
    return records


def _before(parts: Parts, iteration: Iteration, sieve: Sieve) -> list[Point]:
    """Makes the points that are there before the first iteration."""
    done = iteration.points()
    if done is None:
        kept, counts = _grow(parts, sieve, _random_train(parts, "before"), int(parts.config.before or 0), "before")
        iteration.keep_points(kept, counts)
    else:
        kept = done[0]
    sieve.take(kept)
    return kept


def _extend(parts: Parts, iteration: Iteration, sieve: Sieve, number: int) -> dict[str, Any]:
    """Makes the iteration's new points of the best model's mistakes; returns counts."""
    done = iteration.points()
    if done is not None:
        return done[1]
    config = parts.config
    wrong = mistakes(parts, iteration.load(), number)
    wanted = min(max(len(wrong) * int(config.per_mistake or 1), int(config.least or 0)), int(config.most or 1))
    if parts.quota is not None:
        wanted = parts.quota[number] if number < len(parts.quota) else 0
    kept, counts = _grow(parts, sieve, wrong, wanted, number)
    iteration.keep_points(kept, counts)
    return counts


def mistakes(parts: Parts, model: Any, number: int) -> list[Example]:
    """Returns what a model gets wrong, of those splits that ``agora.mistakes`` names; or random train examples."""
    wrong: list[Example] = []
    for split in parts.config.mistakes or ():
        if split == "random":
            wrong += _random_train(parts, number)
            continue
        examples: Sequence[Example] = getattr(parts.task, split)
        found = parts.trainer.logits(model, examples).argmax(axis=1)
        wrong += [example for example, guess in zip(examples, found, strict=True) if int(example.label) != int(guess)]
    return wrong


def _random_train(parts: Parts, number: object) -> list[Example]:
    """Returns the train examples in an order that is a function of seed and number."""
    order: Sequence[int] = named_generator(parts.seed, "random", number).permutation(len(parts.task.train)).tolist()
    return [parts.task.train[place] for place in order]


def _grow(
    parts: Parts, sieve: Sieve, sources: Sequence[Example], wanted: int, number: object
) -> tuple[list[Point], dict[str, Any]]:
    """Makes, sifts and labels points.

    Args:
        parts: What it works with, a labeller among them.
        sieve: Knows what there is already.
        sources: What the points are made of; none are made of nothing.
        wanted: Points to keep, at most.
        number: Of the iteration; decides what is drawn, together with the seed.

    Returns:
        The points kept, and the counts for the ledger.
    """
    assert parts.labeller is not None
    config = parts.config
    counts: dict[str, Any] = {"mistakes": len(sources), "made": 0, "kept": 0, "dropped": {}}
    if not sources or not wanted:
        return [], counts
    drafts = drafts_of(sources, round(wanted * _SURPLUS), parts.generators, named_seed(parts.seed, "points", number))
    kept, dropped = sieve.screen(drafts, wanted)
    probabilities = parts.labeller.probabilities([Example("", draft.texts, 0.0) for draft in kept])
    shares = class_shares(parts.task)
    if parts.shares is not None:
        probabilities = evened(probabilities, parts.shares)
    if config.even(parts.task):
        shares = np.full_like(shares, 1 / len(shares))
    found, refused = label(
        kept,
        probabilities,
        hard=config.labels == "hard",
        confidence=float(config.confidence or 0.0),
        shares=shares if config.balance else None,
    )
    counts |= {"made": len(kept) + dropped.total(), "kept": len(found), "dropped": dict(sorted((dropped + refused).items()))}
    return found, counts


def _steering(record: Mapping[str, Any]) -> float:
    """Returns a training's steering score; below every other where it diverged."""
    return float(record.get("steering", -np.inf))


def _tell(parts: Parts, row: Mapping[str, Any], number: int) -> None:
    figures = {
        "steering": row["best"]["steering"],
        "sets_left": len(row["left"]),
        "points": row["points"],
        "points_kept": row["kept"],
    }
    parts.observer.metrics({f"agora.{name}": float(value) for name, value in figures.items()}, number)
