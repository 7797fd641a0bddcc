"""`bort finetune finetuning=agora`: Agora over several seeds, scored on held-out examples when all choices are made."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.files import digest, read_json, write_json, write_text
from bort.finetuning.agora.config import AgoraConfig, check_agora, theta_grid
from bort.finetuning.agora.encoder import Contextual, Encoder
from bort.finetuning.agora.generators import Generator, build_generators
from bort.finetuning.agora.labeller import Labeller, Refused, build_labeller
from bort.finetuning.agora.loop import Found, Parts, run_loop
from bort.finetuning.agora.retrieval import Pool
from bort.finetuning.agora.state import Iteration
from bort.finetuning.agora.training import Trainer
from bort.finetuning.config import FinetuningConfig, Impl
from bort.finetuning.runs import over_seeds
from bort.finetuning.scoring import lines, predict_from_logits
from bort.finetuning.train import model_digest
from bort.finetuning.workspace import Workspace
from bort.observer import Observer, Quiet
from bort.randomness import named_seed
from bort.record import bind
from bort.tasks.metrics import score
from bort.tasks.task import Task


def without_heldout(task: Task) -> Task:
    """Returns the task with its steering examples in the place of the held-out ones, so that nothing can look at those."""
    return replace(task, heldout=task.steering)


def finetune_agora(
    model_dir: str | Path,
    task: Task,
    config: FinetuningConfig,
    agora: AgoraConfig,
    *,
    directory: str | Path,
    seed: int = 0,
    impl: Impl | None = None,
    observer: Observer | None = None,
    name: str | None = None,
    sentences: Sequence[str] = (),
) -> dict[str, Any]:
    """Fine-tunes a model by Agora, once for each seed.

    Held-out examples are read when every iteration of a seed is done: then the best model of each iteration is scored for the
    ledger. Killed and called anew, it goes on where it was and ends the same.

    Args:
        model_dir: An encoder of transformers.
        task: The task; classification.
        config: Defaults of θ, Θ under ``search`` as lists of choices, and the seeds.
        agora: Settings of Agora.
        directory: Gets ``model/`` (of the seed with the best steering score), ``predictions.jsonl``, ``seeds/<seed>/`` with the
            iterations and ``ledger.json``.
        seed: Decides everything that is drawn, together with the number of each seed.
        impl: Device, precision, threads.
        observer: Told of progress, metrics and warnings.
        name: What progress is reported under.
        sentences: Of a corpus, for the generator ``retrieve``.

    Returns:
        As :func:`bort.finetuning.finetune`: ``metrics``, ``seeds``, ``interval``, ``cost``, …; each seed with its ``ledger`` and
        ``labeller``.

    Raises:
        ConfigurationError: A setting cannot be used.
        Refused: The labeller is not good enough, with ``agora.labeller.refused=raise``.
        RecordError: The directory holds another run.
    """
    check_agora(task, agora, config)
    started, observer, home = time.perf_counter(), observer or Quiet(), Path(directory)
    _claim(home, model_dir, task, config, agora, seed, sentences)
    setting = Setting(model_dir, task, config, agora, impl=impl, observer=observer, sentences=sentences)
    records = [_seed(setting, number, seed, home, f"{name or task.name} seed {number}") for number in config.seeds]
    chosen = max(records, key=lambda record: float(record["steering"][task.primary]))
    return {
        **over_seeds(task, config, records, home=home, seed=seed),
        "theta": {**config.theta(), **chosen["theta"]},
        "trials": [],
        "agora": {"variant": agora.variant, "sets": len(theta_grid(config)), "steps": setting.trainer.steps},
        "cost": {
            "processor_seconds": sum(record["processor_seconds"] for record in records),
            "steps": sum(record["steps"] for record in records),
            "training_seconds": sum(record["seconds"] for record in records),
            "seconds": time.perf_counter() - started,
        },
        "chosen_seed": chosen["seed"],
        "parameters": setting.trainer.workspace.parameters,
    }


def retrieves(agora: AgoraConfig, task: Task) -> bool:
    """Whether points of a task are taken from a corpus: those of single texts, where a generator does."""
    return agora.retrieves() and all(len(one.texts) == 1 for one in task.train)


class Setting:
    """Encoder, task, generators: what every seed of Agora shares.

    Args:
        model_dir: The student.
        task: The task, held-out examples and all; only :func:`score_iteration` reads those.
        config: Fine-tuning.
        agora: Agora.
        impl: Device, precision, threads.
        observer: Told of progress.
        encoder: Where it is loaded already.
        sentences: Of a corpus, for the generator ``retrieve``.
        pool: Those, where their vectors are known already.
        trainer: Makes what trains the models.
    """

    def __init__(
        self,
        model_dir: str | Path,
        task: Task,
        config: FinetuningConfig,
        agora: AgoraConfig,
        *,
        impl: Impl | None = None,
        observer: Observer | None = None,
        encoder: Encoder | None = None,
        sentences: Sequence[str] = (),
        pool: Pool | None = None,
        trainer: type[Trainer] = Trainer,
    ) -> None:
        self.task, self.blind, self.agora, self.impl = task, without_heldout(task), agora.settled(), impl
        self.observer: Observer = observer or Quiet()
        self.config = config
        self.thetas = theta_grid(config)
        steps = agora.steps or config.epochs * -(-len(task.train) // config.batch_size)
        self.encoder = encoder
        if encoder is None and self.agora.labeller.encoder is not None:
            self.encoder = Encoder(self.agora.labeller.encoder, task.max_length)
        self.pool = pool
        if pool is None and self.encoder is not None and sentences and retrieves(self.agora, task):
            self.pool = Pool(sentences, self.encoder, self.observer)
        self.generators = self._generators()
        workspace = Workspace(model_dir, self.blind, config.pooling, impl)
        self.trainer = trainer(workspace, config, steps=steps, judgements=agora.judgements)

    def _generators(self) -> list[Generator]:
        encoder = self.encoder
        return build_generators(
            self.agora.generators or [],
            self.blind,
            symmetric=self.task.name in self.agora.symmetric,
            neighbours=encoder.neighbours if encoder else None,
            contextual=(lambda: Contextual(encoder)) if encoder else None,
            pool=self.pool,
        )

    def variant(self, agora: AgoraConfig) -> Setting:
        """Returns the same with other settings of Agora, which have to be settled; steps and judgements stay."""
        other = copy.copy(self)
        other.agora = agora
        other.generators = other._generators()
        return other

    def labeller(self, directory: Path, seed: int) -> tuple[Labeller, dict[str, Any]]:
        """Returns the labeller and its record."""
        return build_labeller(
            self.agora.labeller,
            self.blind,
            directory=directory,
            encoder=self.encoder,
            seed=named_seed(seed, "labeller"),
            impl=self.impl,
            even=self.agora.even(self.task),
        )

    def parts(self, labeller: Labeller | None, seed: int) -> Parts:
        """Returns what the loop works with; without a labeller that is plain fine-tuning."""
        agora = self.agora.plain() if labeller is None else self.agora
        return Parts(self.trainer, self.blind, self.thetas, self.generators, labeller, agora, seed, self.observer)


def score_iteration(trainer: Trainer, task: Task, iteration: Iteration) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Scores the best model of an iteration on held-out examples; nothing of it comes back into the loop.

    Returns:
        The scores, and the logits, [N, C].
    """
    found = trainer.logits(iteration.load(), task.heldout)
    return score(task, predict_from_logits(task, found), task.heldout), found


def accepted(labeller: Labeller, record: dict[str, Any], config: AgoraConfig, observer: Observer) -> Labeller | None:
    """Returns the labeller, or ``None`` where it was refused and plain fine-tuning is to take its place.

    Raises:
        Refused: It was refused and nothing may take its place.
    """
    if not record["refused"]:
        return labeller
    if config.labeller.refused == "raise":
        raise Refused(f"{record['refused'][0].upper()}{record['refused'][1:]}.")
    observer.warn(f"No points are made: {record['refused']}.")
    return None


def _seed(setting: Setting, number: int, seed: int, home: Path, label: str) -> dict[str, Any]:
    """Returns the record of one seed; what is done already is not done again."""
    folder = home / "seeds" / str(number)
    path = folder / "record.json"
    if path.exists():
        done: dict[str, Any] = read_json(path)
        return done
    started, processor = time.perf_counter(), time.process_time()
    own, task = named_seed(seed, "agora", number), setting.task
    labeller, record = setting.labeller(folder / "labeller", own)
    found = run_loop(setting.parts(accepted(labeller, record, setting.agora, setting.observer), own), folder)
    best, logits_ = _score_all(setting, found, folder)
    winner = found.ledger[best]
    steering = setting.trainer.logits(found.best.load(), task.steering)
    result = {
        "seed": number,
        "theta": winner["best"]["theta"],
        "steering": score(task, predict_from_logits(task, steering), task.steering),
        "heldout": winner["heldout"],
        "best_iteration": best,
        "labeller": record,
        "ledger": found.ledger,
        "points": len(found.points),
        "steps": sum(row["cost"]["steps"] for row in found.ledger),
        # What an earlier process did before it was killed is told by the ledger.
        "processor_seconds": max(time.process_time() - processor, sum(row["cost"]["processor_seconds"] for row in found.ledger)),
        "seconds": time.perf_counter() - started,
        "predictions": predict_from_logits(task, logits_),
    }
    primary = task.primary
    numbers = setting.config.seeds[: setting.config.seeds.index(number)]
    earlier = [read_json(home / "seeds" / str(one) / "record.json")["steering"][primary] for one in numbers]
    if all(result["steering"][primary] > one for one in earlier):
        found.best.copy_model(home / "model")
        write_text(home / "predictions.jsonl", lines(task, logits_))
    write_json(folder / "ledger.json", found.ledger)
    write_json(path, result)
    for iteration in _iterations(folder, found):
        iteration.forget_model()
    return result


def _iterations(folder: Path, found: Found) -> list[Iteration]:
    return [Iteration(folder / f"iteration-{row['iteration']:03}") for row in found.ledger]


def _score_all(setting: Setting, found: Found, folder: Path) -> tuple[int, NDArray[np.float64]]:
    """Enters the held-out score of every iteration's best model into the ledger, when the loop is over.

    Returns:
        The number of the best iteration by steering score, and its held-out logits.
    """
    chosen: tuple[int, NDArray[np.float64]] | None = None
    for row, iteration in zip(found.ledger, _iterations(folder, found), strict=True):
        row["heldout"], logits_ = score_iteration(setting.trainer, setting.task, iteration)
        scores = {f"agora.heldout_{name}": value for name, value in row["heldout"].items()}
        setting.observer.metrics(scores, row["iteration"])
        if iteration.folder == found.best.folder:
            chosen = row["iteration"], logits_
    if chosen is None:
        raise BortError(f"{folder} has lost the best iteration's model; remove the folder and run again.")
    return chosen


def _claim(
    home: Path, model_dir: str | Path, task: Task, config: FinetuningConfig, agora: AgoraConfig, seed: int, sentences: Sequence[str]
) -> None:
    """Marks a directory as this run's; refuses one of another run, whose iterations would be taken for ours."""
    made_from = {
        "model": model_digest(model_dir),
        "task": task.digest,
        "settings": {key: value for key, value in vars(config).items() if key not in ("confidence", "resamples")},
        "agora": asdict(agora.settled()),
        "seed": seed,
        **({"sentences": digest(list(sentences))} if sentences else {}),
    }
    bind(home, "finetuning", made_from)
