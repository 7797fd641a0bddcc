"""`bort finetune finetuning=agora`: Agora over several seeds, scored on held-out examples after all choices are made."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.files import read_json, write_json, write_text
from bort.finetuning.agora.config import AgoraConfig
from bort.finetuning.agora.labeler import Labeler, LabelerRefusedError
from bort.finetuning.agora.loop import AgoraRun, LoopResult, run_loop
from bort.finetuning.agora.setup import AgoraSetup
from bort.finetuning.agora.state import Iteration
from bort.finetuning.agora.training import Trainer
from bort.finetuning.agora.workspace import AgoraWorkspace
from bort.finetuning.runs import over_seeds
from bort.finetuning.scoring import lines, predict_from_logits
from bort.finetuning.train import training_cost
from bort.observer import Observer
from bort.randomness import named_seed
from bort.record import bind
from bort.tasks.metrics import score
from bort.tasks.task import Task


def finetune_agora(
    setup: AgoraSetup, directory: str | Path, *, observer: Observer | None = None, name: str | None = None
) -> dict[str, Any]:
    """Fine-tune a model by Agora, once for each seed.

    Held-out examples are read after every iteration of a seed is done: then the best model of each iteration is scored for the
    ledger. Re-run the same command to resume, with the same result.

    Args:
        setup: Student, task and settings.
        directory: Receives ``model/`` (of the seed with the best steering score), ``predictions.jsonl``, ``seeds/<seed>/`` with the
            iterations and ``ledger.json``.
        observer: Receives progress, metrics and warnings.
        name: Name of the model in progress.

    Returns:
        As :func:`bort.finetuning.runs.finetune`: ``metrics``, ``seeds``, ``interval``, ``cost``, …; each seed with its
        ``ledger`` and ``labeller``.

    Raises:
        ConfigurationError: A setting is invalid.
        LabelerRefusedError: The labeler is not good enough, with ``agora.labeller.refused=raise``.
        RecordError: The directory holds another run.
    """
    setup.check()
    started, home = time.perf_counter(), Path(directory)
    config, task = setup.finetuning.config, setup.finetuning.task
    bind(home, "finetuning", setup.identity())
    workspace = AgoraWorkspace(setup, observer)
    records = [_seed(workspace, number, home) for number in config.seeds]
    chosen = max(records, key=lambda record: float(record["steering"][task.primary]))
    return {
        **over_seeds(setup.finetuning, records, home),
        "theta": {**config.theta(), **chosen["theta"]},
        "trials": [],
        "agora": {"variant": setup.agora.variant, "sets": len(workspace.thetas), "steps": workspace.trainer.steps},
        "cost": {
            "processor_seconds": sum(record["processor_seconds"] for record in records),
            "steps": sum(record["steps"] for record in records),
            "training_seconds": sum(record["seconds"] for record in records),
            "seconds": time.perf_counter() - started,
        },
        "chosen_seed": chosen["seed"],
        "parameters": workspace.trainer.workspace.parameters,
    }


def score_iteration(trainer: Trainer, task: Task, iteration: Iteration) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Score the best model of an iteration on held-out examples, which never influences the loop.

    Returns:
        The scores, and the logits, [N, C].
    """
    found = trainer.logits(iteration.load(), task.heldout)
    return score(task, predict_from_logits(task, found), task.heldout), found


def accepted(labeler: Labeler, record: dict[str, Any], config: AgoraConfig, observer: Observer) -> Labeler | None:
    """Return the labeler, or ``None`` if it was refused and plain fine-tuning takes its place.

    Raises:
        LabelerRefusedError: It was refused and nothing takes its place.
    """
    if not record["refused"]:
        return labeler
    if config.labeller.refused == "raise":
        raise LabelerRefusedError(f"{record['refused'][0].upper()}{record['refused'][1:]}.")
    observer.warn(f"No points are made: {record['refused']}.")
    return None


def _seed(workspace: AgoraWorkspace, number: int, home: Path) -> dict[str, Any]:
    """Return the record of one seed; finished parts are read, not repeated."""
    folder = home / "seeds" / str(number)
    path = folder / "record.json"
    if path.exists():
        done: dict[str, Any] = read_json(path)
        return done
    seed, task = named_seed(workspace.setup.finetuning.seed, "agora", number), workspace.task
    with training_cost() as cost:
        labeler, record = workspace.labeler(folder / "labeller", seed)
        kept = accepted(labeler, record, workspace.agora, workspace.observer)
        result = run_loop(AgoraRun(workspace, kept, seed), folder)
        best, logits = _score_all(workspace, result, folder)
        steering = workspace.trainer.logits(result.best.load(), task.steering)
    winner = result.ledger[best]
    # The ledger has the cost of what an earlier process did before it was killed.
    earlier_cost = sum(row["cost"]["processor_seconds"] for row in result.ledger)
    outcome = {
        "seed": number,
        "theta": winner["best"]["theta"],
        "steering": score(task, predict_from_logits(task, steering), task.steering),
        "heldout": winner["heldout"],
        "best_iteration": best,
        "labeller": record,
        "ledger": result.ledger,
        "points": len(result.points),
        "steps": sum(row["cost"]["steps"] for row in result.ledger),
        "processor_seconds": max(cost["processor_seconds"], earlier_cost),
        "seconds": cost["seconds"],
        "predictions": predict_from_logits(task, logits),
    }
    primary, numbers = task.primary, workspace.setup.finetuning.config.seeds
    before = numbers[: numbers.index(number)]
    earlier = [read_json(home / "seeds" / str(one) / "record.json")["steering"][primary] for one in before]
    if all(outcome["steering"][primary] > one for one in earlier):
        result.best.copy_model(home / "model")
        write_text(home / "predictions.jsonl", lines(task, logits))
    write_json(folder / "ledger.json", result.ledger)
    write_json(path, outcome)
    for iteration in _iterations(folder, result):
        iteration.forget_model()
    return outcome


def _iterations(folder: Path, result: LoopResult) -> list[Iteration]:
    return [Iteration(folder / f"iteration-{row['iteration']:03}") for row in result.ledger]


def _score_all(workspace: AgoraWorkspace, result: LoopResult, folder: Path) -> tuple[int, NDArray[np.float64]]:
    """Enter the held-out score of every iteration's best model into the ledger, after the loop has ended.

    Returns:
        The number of the best iteration by steering score, and its held-out logits.
    """
    chosen: tuple[int, NDArray[np.float64]] | None = None
    for row, iteration in zip(result.ledger, _iterations(folder, result), strict=True):
        row["heldout"], logits = score_iteration(workspace.trainer, workspace.task, iteration)
        scores = {f"agora.heldout_{name}": value for name, value in row["heldout"].items()}
        workspace.observer.metrics(scores, row["iteration"])
        if iteration.folder == result.best.folder:
            chosen = row["iteration"], logits
    if chosen is None:
        raise BortError(f"{folder} has lost the best iteration's model; remove the folder and run again.")
    return chosen
